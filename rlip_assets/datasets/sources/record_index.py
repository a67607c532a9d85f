"""Annotation records by bucket: annotation files are read once as a stream and spread over one file a bucket.

The index is a cache outside the lineage. It is keyed by the names, sizes and times of the annotation files, built
under a lock and renamed into place, and it can be deleted at any time. Memory is bounded by one bucket, not by the
dataset.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from rlip_assets.datasets.scenes import bucket_of
from rlip_assets.datasets.sources.readers import Fragment, RawImage, Reader
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.files import atomic_folder, digest_json

INDEX_VERSION = 1


@dataclass(frozen=True)
class Rejected:
    """A row of an annotation file that cannot become an image."""

    image_id: str
    reason: str


class RecordIndex:
    """The records of one dataset, by bucket."""

    def __init__(self, reader: Reader, buckets: int, cache: Path) -> None:
        """Open the index in `cache`, building it first when the annotation files changed.

        Raises:
            InputError, DataError: as `Reader.fragments`.
        """
        self._reader, self._buckets = reader, buckets
        self.unused = 0
        """Images seen by `images` so far that the dataset lists and does not use, such as COCO images without annotations."""
        files = reader.annotation_files()
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise InputError(
                f"the raw dataset {reader.dataset} has no file {missing[0]}; fetch it or set {reader.root_key}"
            )
        stamps = [(reader.relative(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        key = digest_json([INDEX_VERSION, str(reader.root.resolve()), stamps, buckets])[:24]
        self._folder = cache / reader.dataset / key
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder.parent / "index.lock"):
            if not self._folder.exists():
                for old in self._folder.parent.iterdir():
                    if old.is_dir():
                        shutil.rmtree(old)
                with atomic_folder(self._folder) as temporary:
                    self._build(temporary)

    def _build(self, folder: Path) -> None:
        with ExitStack() as stack:
            streams = [stack.enter_context(_bucket_file(folder, k).open("w")) for k in range(self._buckets)]
            for piece in self._reader.fragments():
                line = json.dumps([piece.image_id, piece.kind, piece.content, piece.origin])
                streams[bucket_of(piece.image_id, self._buckets)].write(line + "\n")

    def images(self, bucket: int) -> Iterator[RawImage | Rejected]:
        """The images of one bucket, in the order of the annotation files.

        A second row for the same image, and pieces of an image that no row declares, are `Rejected`.
        """
        declared: dict[str, list[Fragment]] = {}
        pieces: dict[str, list[Fragment]] = {}
        rejected: list[Rejected] = []
        with _bucket_file(self._folder, bucket).open() as stream:
            for line in stream:
                piece = Fragment(*json.loads(line))
                if piece.kind != "image":
                    pieces.setdefault(piece.image_id, []).append(piece)
                elif piece.image_id in declared:
                    first = declared[piece.image_id][0]
                    reason = f"image id appears twice ({piece.origin}; first at {first.origin})"
                    rejected.append(Rejected(piece.image_id, reason))
                else:
                    declared[piece.image_id] = [piece]
        for image_id, fragments in declared.items():
            raw = self._reader.assemble(fragments + pieces.pop(image_id, []))
            if raw is None:
                self.unused += 1
            else:
                yield raw
        for image_id, orphans in pieces.items():
            stray = next((piece for piece in orphans if piece.kind not in self._reader.optional_kinds), None)
            if stray is not None:
                reason = f"annotations of an image that is not listed ({stray.origin})"
                rejected.append(Rejected(image_id, reason))
        yield from rejected


def _bucket_file(folder: Path, bucket: int) -> Path:
    return folder / f"bucket-{bucket}.jsonl"
