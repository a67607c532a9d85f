"""The tables between images and pseudo labels: captions, text triplets and candidates. One row per image, Parquet parts in a folder.

Columns of a row's lists are parallel. A row refers to entities of a scene by index, together with the scene's content hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from rlip_assets.storage.errors import InputError
from rlip_assets.storage.files import atomic_file

VERSION = "1"
_TEXTS, _INTS = pa.list_(pa.string()), pa.list_(pa.int32())


@dataclass(frozen=True)
class CaptionRow:
    """The captions of one image, duplicates kept."""

    SCHEMA: ClassVar[str] = "rlip.captions"
    MADE_BY: ClassVar[str] = "captions"
    image_id: str
    captions: list[str]


@dataclass(frozen=True)
class TripletRow:
    """The text triplets of one image's captions, each once. `votes`: captions that state it."""

    SCHEMA: ClassVar[str] = "rlip.caption_triplets"
    MADE_BY: ClassVar[str] = "caption_triplets"
    image_id: str
    subject: list[str]
    relation: list[str]
    surface: list[str]
    object: list[str]
    votes: list[int]


@dataclass(frozen=True)
class CandidateRow:
    """The relations that ordered pairs of an image's entities may hold.

    subject, object: entity indices of the scene whose hash is `scene_hash`. relation: the text that a label will carry;
    surface: the wording most captions used. votes: captions that state it of this pair's classes.
    """

    SCHEMA: ClassVar[str] = "rlip.candidates"
    MADE_BY: ClassVar[str] = "candidates"
    image_id: str
    scene_hash: str
    subject: list[int]
    object: list[int]
    relation: list[str]
    surface: list[str]
    votes: list[int]


Row = TypeVar("Row", CaptionRow, TripletRow, CandidateRow)
_TYPES = {"str": pa.string(), "list[str]": _TEXTS, "list[int]": _INTS}


def _schema(kind: type[Any]) -> pa.Schema:
    columns = [pa.field(field.name, _TYPES[str(field.type)], nullable=False) for field in fields(kind)]
    return pa.schema(columns, metadata={"schema": kind.SCHEMA, "version": VERSION})


def write_rows(path: Path, kind: type[Row], rows: Sequence[Row]) -> None:
    """Write one part, atomically. Equal rows give equal bytes."""
    values = [astuple(row) for row in rows]
    columns = list(zip(*values, strict=True)) if values else [()] * len(fields(kind))
    schema = _schema(kind)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    with atomic_file(path) as temporary:
        pq.write_table(
            pa.Table.from_arrays(arrays, schema=schema), temporary, compression="zstd", write_statistics=False
        )


def read_rows(folder: Path, kind: type[Row]) -> Iterator[Row]:
    """All rows of a table in order, one part in memory at a time.

    Raises:
        InputError: no parts, a part that is damaged, of another kind or of another schema version.
    """
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        raise InputError(f"{folder} holds no part-*.parquet; run the stage '{kind.MADE_BY}' that writes it")
    for part in parts:
        yield from _read_part(part, kind)


def _read_part(path: Path, kind: type[Row]) -> Iterator[Row]:
    try:
        table = pq.read_table(path, memory_map=False)
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path} is not a whole Parquet file ({reason}); run the stage '{kind.MADE_BY}' again"
        ) from None
    metadata = table.schema.metadata or {}
    name, version = metadata.get(b"schema", b"").decode(), metadata.get(b"version", b"").decode()
    if (name, version) != (kind.SCHEMA, VERSION):
        raise InputError(
            f"{path} has schema {name or 'unnamed'!r} version {version or 'unknown'}, this program reads {kind.SCHEMA!r} "
            f"version {VERSION}; run the stage '{kind.MADE_BY}' again"
        )
    try:
        columns = [table.column(field.name).to_pylist() for field in fields(kind)]
    except UnicodeDecodeError:
        raise InputError(
            f"{path} row {_first_broken(table)} has text that is not UTF-8; run the stage '{kind.MADE_BY}' again"
        ) from None
    for values in zip(*columns, strict=True):
        yield kind(*values)


def _first_broken(table: pa.Table) -> int:
    """The first row with a text that cannot be decoded."""
    for row in range(table.num_rows):
        try:
            table.slice(row, 1).to_pylist()
        except UnicodeDecodeError:
            return row
    return int(table.num_rows)
