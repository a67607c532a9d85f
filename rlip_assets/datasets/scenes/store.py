"""Scene tables for training: memory-mapped, random access, one copy on a machine however many processes read it.

An Arrow IPC file is derived from the Parquet parts of a table and kept in a cache folder under the table's content
digest; it is never versioned and can be deleted at any time. Texts are stored once as a vocabulary and as codes in the
rows.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from filelock import FileLock

from rlip_assets.datasets.scenes.scene import Scene
from rlip_assets.datasets.scenes.tables import TABLE_FILE, part_files, read_arrow, table_digest
from rlip_assets.storage.arrow_arrays import array_of, numbers
from rlip_assets.storage.files import atomic_folder, digest_json, write_json

STORE_VERSION = 1
_ROWS_FILE, _VOCABULARY_FILE = "scenes.arrow", "vocabulary.json"
_BATCH_ROWS = 65_536
Splits = str | tuple[str, ...] | None
"""A split, several, or all."""

_CODES = pa.list_(pa.int32())
_STORE_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string()),
        pa.field("file_name", pa.string()),
        pa.field("head", pa.list_(pa.int32(), 4)),  # dataset code, split code, width, height
        pa.field("boxes", pa.list_(pa.list_(pa.float32(), 4))),
        pa.field("label", _CODES),
        pa.field("pairs", pa.list_(pa.list_(pa.int32(), 2))),
        pa.field("relation", _CODES),
        pa.field("confidence", pa.list_(pa.float32())),
    ]
)


class SceneStore:
    """The scenes of some tables, in the order of the tables and of their rows.

    Open it with `SceneStore.open`. A store pickles as a list of paths, so a worker process maps the same files instead
    of copying rows. The arrays of a scene are read-only views into the map: copy before writing into them.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = list(files)
        self._maps = [_MappedTable(file) for file in self._files]
        self._ends = list(accumulate(len(table) for table in self._maps))

    @classmethod
    def open(cls, folders: Sequence[Path], cache_dir: Path) -> SceneStore:
        """Map the tables in `folders`; one that is not in `cache_dir` yet is derived first, part by part, under a lock.

        Raises:
            InputError: a folder that is no scene table, or a part that is missing, damaged or of another schema
                version.
        """
        return cls([_derived(folder, cache_dir) for folder in folders])

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Scene:
        """Scene `index`; negative indices count from the end, slices are not supported."""
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        table = bisect_right(self._ends, index)
        return self._maps[table].scene(index - (self._ends[table - 1] if table else 0))

    def __iter__(self) -> Iterator[Scene]:
        return (self[index] for index in range(len(self)))

    def __reduce__(self) -> tuple[type[SceneStore], tuple[list[Path]]]:
        return type(self), (self._files,)

    def image_id(self, index: int) -> str:
        """Id of scene `index`, without making the scene."""
        table = bisect_right(self._ends, index)
        return self._maps[table].image_id(index - (self._ends[table - 1] if table else 0))

    def indices(
        self, split: Splits = None, with_triplets: bool = False, min_confidence: float = 0.0
    ) -> npt.NDArray[np.int64]:
        """Row numbers of one split or several (None: of all), on wish only of images with at least one triplet that is human or
        has `min_confidence`; scans no strings."""
        masks = [table.mask(split, with_triplets, min_confidence) for table in self._maps]
        return np.flatnonzero(np.concatenate(masks)) if masks else np.zeros(0, np.int64)

    def object_counts(self, split: Splits = None) -> Counter[str]:
        """Return the number of boxes of each class name, in some splits or in all."""
        return sum((table.counts("label", split) for table in self._maps), Counter())

    def relation_counts(self, min_confidence: float = 0.0, split: Splits = None) -> Counter[str]:
        """Return the number of triplets of each relation text, in some splits or in all; human triplets always count, pseudo ones
        from `min_confidence` on."""
        return sum((table.counts("relation", split, min_confidence) for table in self._maps), Counter())


def cache_name(folder: Path) -> str:
    """Name of the cache entry of a table."""
    return digest_json([STORE_VERSION, table_digest(folder)])[:32]


def current_entries(root: Path, cache_dir: Path) -> list[Path]:
    """Return the entries of a cache, there or not, that belong to the scene tables below `root`."""
    return [cache_dir / cache_name(table.parent) for table in sorted(root.glob(f"**/{TABLE_FILE}"))]


def _derived(folder: Path, cache_dir: Path) -> Path:
    """The cache entry of a table, made when it is not there."""
    entry = cache_dir / cache_name(folder)
    if not entry.exists():
        cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(cache_dir / f"{entry.name}.lock"):
            if not entry.exists():
                with atomic_folder(entry) as temporary:
                    _derive(part_files(folder), temporary)
    return entry


def _derive(parts: Sequence[Path], folder: Path) -> None:
    """Write rows and vocabulary of one table; holds `_BATCH_ROWS` rows in memory."""
    codes: dict[str, int] = {}
    with pa.OSFile(str(folder / _ROWS_FILE), "wb") as sink, pa.ipc.new_file(sink, _STORE_SCHEMA) as writer:
        pending: list[pa.Table] = []
        for number, part in enumerate(parts, start=1):
            pending.append(_encoded(read_arrow(part).combine_chunks(), codes))
            if sum(table.num_rows for table in pending) >= _BATCH_ROWS or number == len(parts):
                for batch in pa.concat_tables(pending).combine_chunks().to_batches():
                    writer.write_batch(batch)
                pending = []
    write_json(folder / _VOCABULARY_FILE, list(codes))


def _encoded(table: pa.Table, codes: dict[str, int]) -> pa.Table:
    """One part in the form of `_STORE_SCHEMA`; new texts are added to `codes`."""

    def column(name: str) -> pa.Array:
        chunked = table.column(name)
        return chunked.combine_chunks() if chunked.num_chunks != 1 else chunked.chunk(0)

    def encode(texts: pa.Array) -> npt.NDArray[np.int32]:
        encoded = texts.dictionary_encode()
        new = [codes.setdefault(text, len(codes)) for text in encoded.dictionary.to_pylist()]
        return np.array(new, np.int32)[numbers(encoded.indices)] if new else np.zeros(0, np.int32)

    def stacked(names: Sequence[str]) -> pa.Array:
        rows = np.stack([numbers(column(name).flatten()) for name in names], axis=1)
        return pa.FixedSizeListArray.from_arrays(array_of(rows.reshape(-1)), len(names))

    def listed(like: str, values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(column(like).offsets, values)

    sizes = [numbers(column(name)) for name in ("width", "height")]
    head = np.stack([encode(column("dataset")), encode(column("split")), *sizes], axis=1)
    columns = [
        column("image_id"),
        column("file_name"),
        pa.FixedSizeListArray.from_arrays(array_of(head.reshape(-1)), 4),
        listed("x1", stacked(("x1", "y1", "x2", "y2"))),
        listed("label", array_of(encode(column("label").flatten()))),
        listed("subject", stacked(("subject", "object"))),
        listed("relation", array_of(encode(column("relation").flatten()))),
        listed("confidence", array_of(numbers(column("confidence").flatten()))),
    ]
    return pa.Table.from_arrays(columns, schema=_STORE_SCHEMA)


class _MappedTable:
    """One derived table: its record batches as NumPy views into the map."""

    def __init__(self, entry: Path) -> None:
        reader = pa.ipc.open_file(pa.memory_map(str(entry / _ROWS_FILE), "r"))
        self._batches = [_Batch(reader.get_batch(number)) for number in range(reader.num_record_batches)]
        self._ends = list(accumulate(batch.rows for batch in self._batches))
        self._texts: list[str] = json.loads((entry / _VOCABULARY_FILE).read_text())

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def scene(self, index: int) -> Scene:
        number = bisect_right(self._ends, index)
        batch = self._batches[number]
        return batch.scene(index - (self._ends[number - 1] if number else 0), self._texts)

    def image_id(self, index: int) -> str:
        number = bisect_right(self._ends, index)
        return self._batches[number].image_id(index - (self._ends[number - 1] if number else 0))

    def mask(self, split: Splits, with_triplets: bool, min_confidence: float) -> npt.NDArray[np.bool_]:
        keep = np.ones(len(self), bool)
        for batch, end in zip(self._batches, self._ends, strict=True):
            rows = slice(end - batch.rows, end)
            keep[rows] &= self._of_split(batch, split)
            if with_triplets:
                strong = np.concatenate([[0], np.cumsum(~(batch.confidence < min_confidence))])
                keep[rows] &= np.diff(strong[batch.triplets]) > 0
        return keep

    def counts(self, column: str, split: Splits, min_confidence: float = 0.0) -> Counter[str]:
        totals = np.zeros(len(self._texts), np.int64)
        for batch in self._batches:
            rows = self._of_split(batch, split)
            if column == "label":
                codes = batch.label[np.repeat(rows, np.diff(batch.entities))]
            else:
                codes = batch.relation[np.repeat(rows, np.diff(batch.triplets)) & ~(batch.confidence < min_confidence)]
            totals += np.bincount(codes, minlength=len(totals))
        return Counter({self._texts[code]: int(totals[code]) for code in np.flatnonzero(totals)})

    def _of_split(self, batch: _Batch, split: Splits) -> npt.NDArray[np.bool_]:
        """(rows,) True where a row of `batch` belongs to `split`."""
        if split is None:
            return np.ones(batch.rows, bool)
        wanted = (split,) if isinstance(split, str) else split
        return np.isin(batch.head[:, 1], [self._texts.index(name) for name in wanted if name in self._texts])


class _Batch:
    """Views of one record batch: flat values, and offsets into them (rows + 1)."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.rows = batch.num_rows
        self._ids, self._id_bytes = _text_buffers(batch.column("image_id"))
        self._files, self._file_bytes = _text_buffers(batch.column("file_name"))
        self.head = numbers(batch.column("head").flatten()).reshape(-1, 4)
        self.entities, self.triplets = (numbers(batch.column(name).offsets) for name in ("boxes", "pairs"))
        self.boxes = numbers(batch.column("boxes").values.flatten()).reshape(-1, 4)
        self.pairs = numbers(batch.column("pairs").values.flatten()).reshape(-1, 2)
        self.label, self.relation, self.confidence = (
            numbers(batch.column(name).values) for name in ("label", "relation", "confidence")
        )

    def image_id(self, row: int) -> str:
        return str(self._id_bytes[self._ids[row] : self._ids[row + 1]], "utf-8")

    def scene(self, row: int, texts: list[str]) -> Scene:
        a, b = self.entities[row : row + 2].tolist()
        c, d = self.triplets[row : row + 2].tolist()
        dataset, split, width, height = self.head[row].tolist()
        pairs = self.pairs[c:d]
        return Scene(
            self.image_id(row),
            texts[dataset],
            texts[split],
            str(self._file_bytes[self._files[row] : self._files[row + 1]], "utf-8"),
            width,
            height,
            self.boxes[a:b],
            tuple([texts[code] for code in self.label[a:b].tolist()]),
            pairs[:, 0],
            pairs[:, 1],
            tuple([texts[code] for code in self.relation[c:d].tolist()]),
            self.confidence[c:d],
        )


def _text_buffers(column: pa.Array) -> tuple[npt.NDArray[np.int32], memoryview]:
    """Offsets (rows + 1) and UTF-8 bytes of a string column without offset of its own."""
    _, offsets, content = column.buffers()
    return np.frombuffer(offsets, np.int32, len(column) + 1), memoryview(content if content is not None else b"")
