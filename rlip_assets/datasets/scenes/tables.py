"""Scene tables on disk: a folder of Parquet parts and `table.json`, which lists them with their checksums.

A row is an image; entities and triplets are parallel lists inside the row. Parts are written to a temporary name,
fsynced and renamed, so that a part is there whole or not at all; `table.json` comes last and says that the table is
complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rlip_assets.datasets.scenes.scene import Scene, check_scene
from rlip_assets.storage.arrow_arrays import array_of, array_of_texts, numbers
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.files import atomic_file, digest_json, sha256_file, write_json

SCHEMA_NAME = "rlip.scenes"
SCHEMA_VERSION = 1
TABLE_FILE = "table.json"

_FLOATS, _INTS, _TEXTS = pa.list_(pa.float32()), pa.list_(pa.int32()), pa.list_(pa.string())
SCENE_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("file_name", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        *(pa.field(name, _FLOATS, nullable=False) for name in ("x1", "y1", "x2", "y2")),
        pa.field("label", _TEXTS, nullable=False),
        pa.field("subject", _INTS, nullable=False),
        pa.field("object", _INTS, nullable=False),
        pa.field("relation", _TEXTS, nullable=False),
        pa.field("confidence", _FLOATS, nullable=False),
    ],
    metadata={"schema": SCHEMA_NAME, "version": str(SCHEMA_VERSION)},
)


def part_name(index: int) -> str:
    """File name of part `index`."""
    return f"part-{index:05d}.parquet"


def part_files(folder: Path) -> list[Path]:
    """The parts of a table, in order.

    Raises:
        InputError: the folder does not exist, holds no part, or misses a part that its `table.json` lists.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder of a scene table; run the stage that writes it")
    parts = sorted(folder.glob("part-*.parquet"))
    listed = _listed_parts(folder)
    if listed is None and not parts:
        raise InputError(f"{folder} holds no part-*.parquet; run the stage that writes it")
    if listed is not None:
        names = [part["name"] for part in listed]
        missing = sorted(set(names) - {part.name for part in parts})
        if missing:
            raise InputError(f"{folder / missing[0]} is listed in {TABLE_FILE} but missing; fetch or rebuild the table")
        parts = [folder / name for name in names]
    return parts


def _listed_parts(folder: Path) -> list[dict[str, Any]] | None:
    path = folder / TABLE_FILE
    if not path.exists():
        return None
    try:
        listed = json.loads(path.read_text()) if path.is_file() else {}
        return [{"name": str(part["name"]), "sha256": str(part["sha256"])} for part in listed["parts"]]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is not the list of a table's parts; rebuild the table") from None


def scenes_to_arrow(scenes: Sequence[Scene]) -> pa.Table:
    """The Arrow table of some scenes, schema `SCENE_SCHEMA`."""
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(scene.boxes for scene in scenes)])
    entities, triplets = [len(scene.labels) for scene in scenes], [len(scene.relation) for scene in scenes]

    def joined(name: str, kind: type) -> npt.NDArray[Any]:
        return np.concatenate([np.zeros(0, kind), *(getattr(scene, name) for scene in scenes)]).astype(kind)

    def listed(counts: list[int], values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(array_of(np.cumsum([0, *counts], dtype=np.int32)), values)

    confidence = joined("confidence", np.float32)
    columns = [
        *(array_of_texts([getattr(s, name) for s in scenes]) for name in ("image_id", "dataset", "split", "file_name")),
        *(array_of(np.array([getattr(s, name) for s in scenes], np.int32)) for name in ("width", "height")),
        *(listed(entities, array_of(boxes[:, side].copy())) for side in range(4)),
        listed(entities, array_of_texts([label for scene in scenes for label in scene.labels])),
        listed(triplets, array_of(joined("subject", np.int32))),
        listed(triplets, array_of(joined("object", np.int32))),
        listed(triplets, array_of_texts([text for scene in scenes for text in scene.relation])),
        listed(triplets, array_of(np.nan_to_num(confidence), valid=~np.isnan(confidence))),
    ]
    return pa.Table.from_arrays(columns, schema=SCENE_SCHEMA)


def write_part(path: Path, scenes: Sequence[Scene]) -> None:
    """Write one part, atomically. Equal scenes give equal bytes.

    Raises:
        DataError: a scene that `check_scene` refuses, or an image id twice.
    """
    seen: set[str] = set()
    for scene in scenes:
        check_scene(scene)
        if scene.image_id in seen:
            raise DataError(f"{path.name}: image id {scene.image_id} appears twice; give each image one row")
        seen.add(scene.image_id)
    with atomic_file(path) as temporary:
        pq.write_table(scenes_to_arrow(scenes), temporary, compression="zstd", write_statistics=False)


def finish_table(folder: Path) -> str:
    """Write `table.json` over the parts in `folder` (an empty one where it has no part) and return the table's
    digest."""
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        parts = [folder / part_name(0)]
        write_part(parts[0], [])
    rows = [pq.read_metadata(part).num_rows for part in parts]
    entries = [{"name": p.name, "rows": n, "sha256": sha256_file(p)} for p, n in zip(parts, rows, strict=True)]
    write_json(
        folder / TABLE_FILE, {"schema": SCHEMA_NAME, "version": SCHEMA_VERSION, "rows": sum(rows), "parts": entries}
    )
    return table_digest(folder)


def table_digest(folder: Path) -> str:
    """SHA-256 (hex) that stands for the table's content: from `table.json`, or without one from the parts."""
    listed = _listed_parts(folder)
    hashes = (
        [part["sha256"] for part in listed]
        if listed is not None
        else [sha256_file(part) for part in part_files(folder)]
    )
    return digest_json([SCHEMA_NAME, SCHEMA_VERSION, hashes])


def count_scenes(folder: Path) -> int:
    """Rows of a table, read from the Parquet footers."""
    return sum(pq.read_metadata(part).num_rows for part in part_files(folder))


class SceneWriter:
    """Writes scenes to `folder` as parts of `rows_per_shard` rows; holds one part in memory.

    Use as a context manager: `table.json` is written when the block ends without an exception.
    """

    def __init__(self, folder: Path, rows_per_shard: int = 1000) -> None:
        self._folder = folder
        self._rows_per_shard = rows_per_shard
        self._pending: list[Scene] = []
        self._seen: set[str] = set()
        self._parts = 0

    def __enter__(self) -> SceneWriter:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def write(self, scene: Scene) -> None:
        """Add one row.

        Raises:
            DataError: an image id that was written before; a scene that `check_scene` refuses, when its part is
                written.
        """
        if scene.image_id in self._seen:
            raise DataError(f"{self._folder}: image id {scene.image_id} appears twice; give each image one row")
        self._seen.add(scene.image_id)
        self._pending.append(scene)
        if len(self._pending) >= self._rows_per_shard:
            self._flush()

    def _flush(self) -> None:
        write_part(self._folder / part_name(self._parts), self._pending)
        self._parts += 1
        self._pending = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            if self._pending:
                self._flush()
            finish_table(self._folder)


def write_scenes(folder: Path, scenes: Iterable[Scene], rows_per_shard: int = 1000) -> int:
    """Write a whole table and return its number of rows; see `SceneWriter` for the errors."""
    rows = 0
    with SceneWriter(folder, rows_per_shard) as writer:
        for scene in scenes:
            writer.write(scene)
            rows += 1
    return rows


def bucket_folders(folder: Path) -> list[Path]:
    """The tables of a dataset's folder in the order of their buckets, or the folder itself where it is one table.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist; run the stage that writes it")
    return sorted(folder.glob("bucket-*"), key=lambda path: int(path.name.removeprefix("bucket-"))) or [folder]


def read_arrow(path: Path) -> pa.Table:
    """The Arrow table of one part.

    Raises:
        InputError: not Parquet, truncated, no scene table, or a scene table of another schema version.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no regular file; fetch or rebuild the table")
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; run the stage that writes it") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{path} is not a whole Parquet file ({str(error).splitlines()[0]}); fetch or rebuild it"
        ) from None
    metadata = table.schema.metadata or {}
    name, version = metadata.get(b"schema", b"").decode(), metadata.get(b"version", b"").decode()
    if name != SCHEMA_NAME:
        raise InputError(
            f"{path} is not a scene table (schema {name or 'unnamed'!r}); give a folder that a scene stage wrote"
        )
    if version != str(SCHEMA_VERSION):
        raise InputError(
            f"{path} has scene schema version {version}, this program reads {SCHEMA_VERSION}; rebuild the table"
        )
    return table


def read_part(path: Path) -> list[Scene]:
    """The scenes of one part; see `read_arrow` for the errors."""
    table = read_arrow(path).combine_chunks()
    if not table.num_rows:
        return []
    columns = {name: table.column(name).chunk(0) for name in table.schema.names}
    boxes = np.stack([numbers(columns[side].flatten()) for side in ("x1", "y1", "x2", "y2")], axis=1)
    entities = numbers(columns["x1"].offsets)
    triplets = numbers(columns["subject"].offsets)
    labels, relations = columns["label"].flatten().to_pylist(), columns["relation"].flatten().to_pylist()
    subjects, objects = (numbers(columns[end].flatten()) for end in ("subject", "object"))
    confidence = numbers(columns["confidence"].flatten())
    heads = table.select(["image_id", "dataset", "split", "file_name", "width", "height"]).to_pylist()
    scenes = []
    for row, head in enumerate(heads):
        a, b, c, d = entities[row], entities[row + 1], triplets[row], triplets[row + 1]
        scenes.append(
            Scene(
                **head,
                boxes=boxes[a:b],
                labels=tuple(labels[a:b]),
                subject=subjects[c:d],
                object=objects[c:d],
                relation=tuple(relations[c:d]),
                confidence=confidence[c:d],
            )
        )
    return scenes


def read_scenes(folder: Path) -> Iterator[Scene]:
    """All scenes of a table in order, one part in memory at a time; see `part_files` and `read_arrow` for the
    errors."""
    for part in part_files(folder):
        yield from read_part(part)
