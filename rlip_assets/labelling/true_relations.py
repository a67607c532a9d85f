"""Tables of true relations: what holds in the images of a dataset, kept aside to measure labels with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rlip_assets.storage.errors import InputError
from rlip_assets.storage.files import atomic_file

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("subject", pa.int32()),
        ("object", pa.int32()),
        ("relation", pa.string()),
        ("accepted", pa.list_(pa.string())),
        ("implied", pa.list_(pa.string())),
        ("spatial", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class TrueRelation:
    """A relation that holds in an image.

    Attributes:
        image_id: id of the image, as text.
        subject, object: positions of the boxes in the image's row of the scene table.
        relation: base text ("sit on").
        accepted: every text that names it, the base text first ("sit on", "sitting on", "sits on", ...).
        implied: texts that are true as well though they do not name it ("on").
        spatial: "next to" or "behind", which hold for all pairs that stand so, as opposed to what happens.
    """

    image_id: str
    subject: int
    object: int
    relation: str
    accepted: list[str]
    implied: list[str]
    spatial: bool


def write_true_relations(path: Path, relations: Iterable[TrueRelation]) -> None:
    """Write one row per relation, atomically."""
    table = pa.Table.from_pylist([asdict(relation) for relation in relations], schema=SCHEMA)
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_true_relations(path: Path) -> dict[str, list[TrueRelation]]:
    """Return the relations of each image, in the order of the table.

    Raises:
        InputError: the table is missing or damaged.
    """
    try:
        rows = pq.read_table(path, schema=SCHEMA).to_pylist()
    except FileNotFoundError:
        raise InputError(
            f"{path} does not exist; label quality is measured only on datasets whose true relations are known"
        ) from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is no table of true relations ({error}); run the micro_world stage again") from None
    return by_image(TrueRelation(**row) for row in rows)


def by_image(relations: Iterable[TrueRelation]) -> dict[str, list[TrueRelation]]:
    """Group relations by the image that they hold in."""
    found: dict[str, list[TrueRelation]] = {}
    for relation in relations:
        found.setdefault(relation.image_id, []).append(relation)
    return found
