"""Annotation records by bucket: annotation files are read once as a stream and spread over one file per bucket.

The index is a cache outside the lineage. It is keyed by the annotation files, their states (`file_state`) and what the reader takes
each for, its split above all. It is built under a lock and renamed into place, and it can be deleted at any time. Memory is bounded by
one bucket, not by the dataset.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from rlip_assets.datasets.scenes import bucket_of
from rlip_assets.datasets.sources.readers import REJECTED, Fragment, RawImage, Reader
from rlip_assets.datasets.sources.rows import shown
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.file_state import content_state
from rlip_assets.storage.files import atomic_folder, digest_json

INDEX_VERSION = 5
_HEADER = "header.json"


@dataclass(frozen=True)
class Rejected:
    """A row of an annotation file that cannot become an image."""

    image_id: str
    reason: str


@dataclass
class _Pieces:
    """All pieces of one split under one image id."""

    images: list[Fragment] = field(default_factory=list)
    others: list[Fragment] = field(default_factory=list)
    rejected: list[Fragment] = field(default_factory=list)

    def of(self, kind: str) -> list[Fragment]:
        """The pieces of one kind."""
        if kind == "image":
            return self.images
        return self.rejected if kind == REJECTED else self.others


class RecordIndex:
    """The records of one dataset, by bucket."""

    def __init__(self, reader: Reader, buckets: int, cache: Path) -> None:
        """Open the index in `cache`, building it first when the annotation files changed.

        Raises:
            InputError: as `Reader.fragments`.
        """
        self._reader, self._buckets = reader, buckets
        self.unused: Counter[str] = Counter()
        """Split -> images seen by `images` so far that the dataset lists and does not use, such as COCO images without annotations."""
        files = reader.annotation_files()
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise InputError(
                f"the raw dataset {reader.dataset} has no file {missing[0]}; fetch it or set {reader.root_key}"
            )
        states = [(reader.relative(file), content_state(file)) for file in files]
        taken_for = [(part, reader.relative(file)) for part, file in reader.official_files().items()]
        passed_over = sorted(reader.relative(file) for file in reader.passed_over)
        content = [type(reader).__name__, str(reader.root.resolve()), states, taken_for, passed_over]
        key = digest_json([INDEX_VERSION, content, buckets])[:24]
        self._folder = cache / reader.dataset / key
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder.parent / "index.lock"):
            if not self._folder.exists():
                for old in self._folder.parent.iterdir():
                    if old.is_dir():
                        shutil.rmtree(old)
                with atomic_folder(self._folder) as temporary:
                    self._build(temporary)
        reader.header, self.listed = json.loads((self._folder / _HEADER).read_text())
        """Return what the reader keeps of the whole dataset, and the number of rows that declare an image."""

    def _build(self, folder: Path) -> None:
        bucket, encode = lru_cache(256)(bucket_of), json.JSONEncoder(check_circular=False).encode
        listed = 0
        with ExitStack() as stack:
            streams = [stack.enter_context(_bucket_file(folder, k).open("w")) for k in range(self._buckets)]
            for piece in self._reader.fragments():
                streams[bucket(piece.image_id, self._buckets)].write(encode(piece) + "\n")
                listed += piece.kind == "image"
        (folder / _HEADER).write_text(json.dumps([self._reader.header, listed]))

    def images(self, bucket: int) -> Iterator[RawImage | Rejected]:
        """The images of one bucket, in the order of the annotation files, and then the rows that cannot become one.

        `Rejected` are an image with a row that is not of the form of its file, together with its annotations; all files that share an id
        within a split; a second row for the same file; annotations of an image that no row declares. An id that an earlier split has too
        becomes SPLIT/ID.
        """
        found: dict[tuple[str, str], _Pieces] = {}
        listed: dict[tuple[str, str], None] = {}
        with _bucket_file(self._folder, bucket).open() as stream:
            for line in stream:
                piece = Fragment(*json.loads(line))
                key = piece.split, piece.image_id
                if key not in found:
                    found[key] = _Pieces()
                found[key].of(piece.kind).append(piece)
                if piece.kind == "image":
                    listed[key] = None
        rejected: list[Rejected] = []
        times: Counter[str] = Counter()
        joined = False
        for split, plain in listed:
            pieces = found.pop((split, plain))
            image_id = f"{split}/{plain}" if times[plain] else plain
            times[plain] += 1
            joined |= bool(pieces.others)
            assembled = [self._reader.assemble([image, *pieces.others]) for image in pieces.images]
            raws = [raw for raw in assembled if raw is not None]
            reasons = [pieces.rejected[0].content] if pieces.rejected else _conflicts(raws)
            rejected += [Rejected(image_id, reason) for reason in reasons]
            if len(raws) > len(reasons) and not pieces.rejected:
                yield raws[0] if image_id == plain else replace(raws[0], image_id=image_id)
            elif not raws and not reasons:
                self.unused[split] += 1
        yield from rejected
        for (_, image_id), pieces in found.items():
            yield from (Rejected(image_id, piece.content) for piece in pieces.rejected)
            stray = next((piece for piece in pieces.others if piece.kind not in self._reader.optional_kinds), None)
            if stray is not None and not pieces.rejected:
                reason = f"annotations of an image that is not listed ({stray.origin})"
                if listed and not joined:
                    reason += f": it has the id {shown(image_id)}, listed images have ids such as {shown(next(iter(listed))[1])}"
                yield Rejected(image_id, reason)


def _conflicts(raws: Sequence[RawImage]) -> list[str]:
    """Reasons against all of the images that are listed under one id, or against all but the first."""
    if not raws:
        return []
    first = raws[0]
    other = next((raw for raw in raws if raw.file_name != first.file_name), None)
    if other is not None:
        files = " and ".join(f"{raw.file_name} at {raw.origin}" for raw in (first, other))
        return [f"one image id stands for several files ({files})"] * len(raws)
    return [f"image id appears twice ({raw.origin}; first at {first.origin})" for raw in raws[1:]]


def _bucket_file(folder: Path, bucket: int) -> Path:
    return folder / f"bucket-{bucket}.jsonl"
