"""Predictions of a relation detector as one Parquet file, streamed in both directions.

Schema, version 1: one row per image. The arrays are little-endian bytes, row-major, so that a reader gets them without
decoding (`numpy.frombuffer`); with Q query pairs and V verbs:

| column       | type   | content                                                                                 |
|--------------|--------|-----------------------------------------------------------------------------------------|
| `image_id`   | string | the image's id, unique in the file                                                      |
| `pairs`      | int32  | Q; it may differ from image to image and may be 0                                       |
| `sub_boxes`  | binary | Q x 4 float32, subject boxes x1, y1, x2, y2 in pixels of the original image             |
| `obj_boxes`  | binary | Q x 4 float32, object boxes, likewise                                                   |
| `sub_labels` | binary | Q int32, index into `objects`                                                           |
| `obj_labels` | binary | Q int32, index into `objects`; `len(objects)` means "no object" (V-COCO's missing role) |
| `scores`     | binary | Q x V float32, final relation scores (relation probability times object probability)    |

The file's metadata hold, under the key `rlip`, a JSON object: `schema` (1), `benchmark`, `objects`, `verbs` (lists of
names) and `metadata` (free). The file is neither compressed nor dictionary-encoded: scores do not compress, and reading
is a memory copy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlip_assets.evaluation.formats.json_values import OBJECT, TEXT, field, shown, values
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.files import atomic_file, canonical_json

DAMAGED = (pa.ArrowException, OSError, UnicodeDecodeError)
"""Errors of reading a damaged Parquet file."""
SCHEMA_VERSION = 1
METADATA_KEY = b"rlip"
ROW_GROUP_BYTES = 16 << 20
SCHEMA = pa.schema(
    [("image_id", pa.string()), ("pairs", pa.int32())]
    + [(name, pa.binary()) for name in ("sub_boxes", "obj_boxes", "sub_labels", "obj_labels", "scores")]
)


@dataclass(frozen=True)
class ImagePredictions:
    """Predictions for one image: Q pairs, V scores each. Boxes are xyxy pixels of the original image."""

    image_id: str
    sub_boxes: np.ndarray  # (Q, 4) float32
    obj_boxes: np.ndarray  # (Q, 4) float32
    sub_labels: np.ndarray  # (Q,) int32, index into the file's objects
    obj_labels: np.ndarray  # (Q,) int32, len(objects) = no object
    scores: np.ndarray  # (Q, V) float32


@dataclass(frozen=True)
class PredictionBatch:
    """Predictions of N images, R pairs together: image i owns rows `offsets[i]:offsets[i + 1]`.

    The arrays may be read-only views. `source` and `first_row` say where the images were read, for messages.
    """

    image_ids: tuple[str, ...]
    offsets: np.ndarray  # (N + 1,) int64
    sub_boxes: np.ndarray  # (R, 4) float32
    obj_boxes: np.ndarray  # (R, 4) float32
    sub_labels: np.ndarray  # (R,) int32
    obj_labels: np.ndarray  # (R,) int32
    scores: np.ndarray  # (R, V) float32
    source: str = ""
    first_row: int = 0

    @classmethod
    def of(
        cls, images: Sequence[ImagePredictions], num_verbs: int, source: str = "", first_row: int = 0
    ) -> PredictionBatch:
        """Join single images (copies)."""
        counts = [len(image.sub_labels) for image in images]

        def join(name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
            parts: list[np.ndarray] = [np.asarray(getattr(image, name), dtype).reshape(-1, *shape) for image in images]
            return np.concatenate(parts) if parts else np.zeros((0, *shape), dtype)

        return cls(
            image_ids=tuple(image.image_id for image in images),
            offsets=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64),
            sub_boxes=join("sub_boxes", (4,), np.float32),
            obj_boxes=join("obj_boxes", (4,), np.float32),
            sub_labels=join("sub_labels", (), np.int32),
            obj_labels=join("obj_labels", (), np.int32),
            scores=join("scores", (num_verbs,), np.float32),
            source=source,
            first_row=first_row,
        )

    def place(self, image: int) -> str:
        """Return file, row and id of the batch's image number `image`, for messages."""
        name = f"image {self.image_ids[image]!r}"
        return f"{self.source}, row {self.first_row + image}: {name}" if self.source else name

    def __len__(self) -> int:
        return len(self.image_ids)

    def images(self) -> Iterator[ImagePredictions]:
        """The single images of the batch, as views."""
        for i, image_id in enumerate(self.image_ids):
            rows = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
            yield ImagePredictions(
                image_id,
                self.sub_boxes[rows],
                self.obj_boxes[rows],
                self.sub_labels[rows],
                self.obj_labels[rows],
                self.scores[rows],
            )


def check_batch(batch: PredictionBatch, num_objects: int, num_verbs: int) -> None:
    """Refuse values that no protocol can score: they are an error of the writer, never a low figure.

    Raises:
        DataError: a score matrix of another width, NaN or infinite boxes or scores, labels outside 0..num_objects
            (subjects: outside 0..num_objects-1). The message names file, row, image, pair and value.
    """
    if batch.scores.ndim != 2 or batch.scores.shape[1] != num_verbs:
        raise DataError(
            f"{batch.source}: scores have shape {batch.scores.shape} for {num_verbs} verbs; write one column per verb"
        )

    def refuse(rows: np.ndarray, values: np.ndarray, what: str, remedy: str) -> None:
        row = int(rows[0])
        image = int(np.searchsorted(batch.offsets, row, side="right")) - 1
        pair = row - int(batch.offsets[image])
        raise DataError(f"{batch.place(image)}, pair {pair}: {what} {values[row].tolist()}; {remedy}")

    for name in ("sub_boxes", "obj_boxes", "scores"):
        values = getattr(batch, name)
        with np.errstate(over="ignore", invalid="ignore"):
            suspicious = values.size and not (np.isfinite(values.max()) and np.isfinite(values.min()))
        if suspicious:
            rows = np.flatnonzero(~np.isfinite(values).all(axis=1))
            refuse(rows, values, f"{name} must be finite, found", "drop such pairs before writing")
    for name, last in (("sub_labels", num_objects - 1), ("obj_labels", num_objects)):
        labels = getattr(batch, name)
        if labels.size and (labels.min() < 0 or labels.max() > last):
            rows = np.flatnonzero((labels < 0) | (labels > last))
            refuse(rows, labels, f"{name} must be 0..{last}, found", "index into the file's own list of objects")


class PredictionWriter:
    """Writes a predictions file image by image; the file appears, whole, when the `with` block ends without an error.

    Args:
        path: the file to write.
        benchmark: dataset id, such as "hico_det".
        objects: object class names; labels index into it.
        verbs: relation names, the columns of `scores`.
        metadata: anything JSON to keep with the file (checkpoint digest, recipe, ...).

    Raises:
        DataError: from `write`: a duplicate image id, wrong shapes, NaN or infinite values, labels out of range.
    """

    def __init__(
        self,
        path: Path,
        benchmark: str,
        objects: Sequence[str],
        verbs: Sequence[str],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self.objects, self.verbs = tuple(objects), tuple(verbs)
        header = {
            "schema": SCHEMA_VERSION,
            "benchmark": benchmark,
            "objects": list(self.objects),
            "verbs": list(self.verbs),
            "metadata": dict(metadata or {}),
        }
        self._schema = SCHEMA.with_metadata({METADATA_KEY: canonical_json(header).encode()})
        self._seen: set[str] = set()
        self._rows: list[tuple[Any, ...]] = []
        self._bytes = 0

    def __enter__(self) -> PredictionWriter:
        self._file = atomic_file(self.path)
        temporary = self._file.__enter__()
        self._parquet = pq.ParquetWriter(
            temporary, self._schema, compression="none", use_dictionary=False, write_statistics=False
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
            self._parquet.close()
        finally:
            self._file.__exit__(kind, error, trace)

    def write(self, image: ImagePredictions) -> None:
        """Append one image."""
        where = str(self.path)
        if not isinstance(image.image_id, str):
            raise DataError(f"{where}: image id {image.image_id!r} is not a string; write str(image_id)")
        if image.image_id in self._seen:
            raise DataError(f"{where}: image {image.image_id!r} was written before; write each image once")
        pairs, verbs = len(image.sub_labels), len(self.verbs)
        shapes = {
            "sub_boxes": (pairs, 4),
            "obj_boxes": (pairs, 4),
            "obj_labels": (pairs,),
            "scores": (pairs, verbs),
        }
        for name, shape in shapes.items():
            found = np.shape(getattr(image, name))
            if found != shape:
                raise DataError(f"{where}: image {image.image_id!r}: {name} has shape {found}, expected {shape}")
        batch = PredictionBatch.of([image], verbs, where, len(self._seen))
        check_batch(batch, len(self.objects), verbs)
        arrays = (batch.sub_boxes, batch.obj_boxes, batch.sub_labels, batch.obj_labels, batch.scores)
        blobs = [array.astype(array.dtype.newbyteorder("<")).tobytes() for array in arrays]
        self._seen.add(image.image_id)
        self._rows.append((image.image_id, pairs, *blobs))
        self._bytes += sum(map(len, blobs))
        if self._bytes >= ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = [
                pa.array(values, field.type)
                for values, field in zip(zip(*self._rows, strict=True), SCHEMA, strict=True)
            ]
            self._parquet.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        self._rows, self._bytes = [], 0


class PredictionReader:
    """A predictions file, opened: its header, and batches that are checked while they stream.

    Iterating yields `PredictionBatch`es of about 16 MiB; memory does not grow with the file.

    Raises:
        InputError: no such file, a truncated file, not a predictions file, another schema version.
        DataError: while iterating: a row whose bytes do not fit its `pairs`, a duplicate image id, or what
            `check_batch` refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{path} does not exist; give the predictions file of a training or prediction run")
        try:
            self._parquet = pq.ParquetFile(self.path, pre_buffer=False)
        except DAMAGED as error:
            raise InputError(f"{path} is not a whole Parquet file ({error}); write the predictions again") from None
        raw = (self._parquet.schema_arrow.metadata or {}).get(METADATA_KEY)
        if raw is None or not self._parquet.schema_arrow.equals(SCHEMA):
            raise InputError(f"{path} is not a predictions file of this project; write it with `PredictionWriter`")
        header, where = _header(raw, path), f"{path}, metadata"
        if header.get("schema") != SCHEMA_VERSION:
            found = shown(header.get("schema"))
            raise InputError(f"{path} has schema {found}, this version reads {SCHEMA_VERSION}; write it again")
        self.benchmark: str = field(header, "benchmark", TEXT, where)
        self.objects: tuple[str, ...] = tuple(values(header, "objects", TEXT, where))
        self.verbs: tuple[str, ...] = tuple(values(header, "verbs", TEXT, where))
        self.metadata: dict[str, Any] = field(header, "metadata", OBJECT, where)
        for name, names in (("objects", self.objects), ("verbs", self.verbs)):
            if len(set(names)) < len(names):
                raise DataError(f"{where}: {name} names a class twice; write the predictions again")

    def __len__(self) -> int:
        """Number of images."""
        return int(self._parquet.metadata.num_rows)

    def __iter__(self) -> Iterator[PredictionBatch]:
        seen: dict[str, int] = {}
        try:
            for group in range(self._parquet.num_row_groups):
                rows = max(1, self._parquet.metadata.row_group(group).num_rows)
                for record in self._parquet.iter_batches(rows, [group], SCHEMA.names, use_threads=False):
                    batch = self._batch(record, len(seen))
                    self._check_ids(batch, seen)
                    check_batch(batch, len(self.objects), len(self.verbs))
                    yield batch
        except DAMAGED as error:
            raise InputError(f"{self.path} is damaged or truncated ({error}); write the predictions again") from None

    def _check_ids(self, batch: PredictionBatch, seen: dict[str, int]) -> None:
        for number, image_id in enumerate(batch.image_ids):
            if image_id in seen:
                raise DataError(
                    f"{batch.place(number)} occurs twice, first in row {seen[image_id]}; keep one row per image"
                )
            seen[image_id] = batch.first_row + number

    def _batch(self, record: pa.RecordBatch, first_row: int) -> PredictionBatch:
        columns = {name: record.column(name) for name in SCHEMA.names}
        for name, column in columns.items():
            if column.null_count:
                row = first_row + column.is_null().to_pylist().index(True)
                raise DataError(f"{self.path}, row {row}: column {name!r} is null; every image needs every column")
        image_ids = tuple(columns["image_id"].to_pylist())
        # Buffers are read directly: pyarrow's own conversions to NumPy import pandas, half a second of start-up.
        counts = columns["pairs"]
        pairs = np.frombuffer(counts.buffers()[1], "<i4", len(counts), counts.offset * 4).astype(np.int64)

        def view(name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
            column = columns[name]
            offsets = np.frombuffer(column.buffers()[1], np.int32, len(column) + 1, column.offset * 4)
            size = int(np.prod(shape, dtype=np.int64)) * 4
            wrong = np.flatnonzero(np.diff(offsets.astype(np.int64)) != pairs * size)
            if len(wrong):
                i = int(wrong[0])
                found, expected = int(offsets[i + 1] - offsets[i]), int(pairs[i]) * size
                problem = f"{name} holds {found} bytes, {int(pairs[i])} pairs need {expected}"
                raise DataError(
                    f"{self.path}, row {first_row + i}: image {image_ids[i]!r}: {problem}; write the file again"
                )
            data = column.buffers()[2]
            count = int(pairs.sum()) * size // 4
            flat = np.frombuffer(data, dtype, count, int(offsets[0])) if count else np.zeros(0, dtype)
            return flat.reshape(-1, *shape)

        return PredictionBatch(
            image_ids=image_ids,
            offsets=np.concatenate([[0], np.cumsum(pairs)]).astype(np.int64),
            sub_boxes=view("sub_boxes", (4,), "<f4"),
            obj_boxes=view("obj_boxes", (4,), "<f4"),
            sub_labels=view("sub_labels", (), "<i4"),
            obj_labels=view("obj_labels", (), "<i4"),
            scores=view("scores", (len(self.verbs),), "<f4"),
            source=str(self.path),
            first_row=first_row,
        )


def _header(raw: bytes, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise InputError(f"{path} has metadata that are no JSON object; write it with `PredictionWriter`")
    return header


def read_predictions(path: Path) -> PredictionReader:
    """Open a predictions file; iterate over the result for batches."""
    return PredictionReader(path)
