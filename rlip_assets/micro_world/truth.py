"""The true relations of COCO and Objects365 images, kept apart from the raw data and used for measuring alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rlip_assets.micro_world.picture import Picture
from rlip_assets.micro_world.wording import accepted
from rlip_assets.micro_world.world import IMPLIED
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


def true_relations(image_id: str, picture: Picture, position: Mapping[int, int]) -> list[TrueRelation]:
    """Relations between things that the dataset annotates; `position`: thing index -> position of its box."""
    return [
        TrueRelation(
            image_id,
            position[relation.subject],
            position[relation.object],
            relation.text,
            accepted(relation.text),
            [text for implied in IMPLIED.get(relation.text, ()) for text in accepted(implied)],
            relation.spatial,
        )
        for relation in picture.relations
        if relation.subject in position and relation.object in position
    ]


def write_truth(path: Path, relations: Iterable[TrueRelation]) -> None:
    """Write one row a relation, atomically."""
    table = pa.Table.from_pylist([asdict(relation) for relation in relations], schema=SCHEMA)
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_truth(path: Path) -> list[TrueRelation]:
    """Read what `write_truth` wrote, in its order."""
    return [TrueRelation(**row) for row in pq.read_table(path, schema=SCHEMA).to_pylist()]
