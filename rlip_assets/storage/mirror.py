"""A local folder that follows a prefix of an object store: only new and changed objects are fetched, removed ones are removed.

A small database beside the folder remembers the store's tag of each object. A killed synchronisation is continued by the next one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from rlip_assets.storage.checksums import FileRecords
from rlip_assets.storage.errors import DataError
from rlip_assets.storage.object_store import ObjectStore, Prefix, RemoteObject, one_sentence


@dataclass(frozen=True)
class Difference:
    """Objects of a prefix that its mirror lacks, and files of the mirror that the prefix lacks. Names in order.

    `listing` is a digest of the names and tags of all objects of the prefix: what the mirror should be, however much of it is there.
    """

    fetch: tuple[RemoteObject, ...]
    remove: tuple[str, ...]
    kept: int
    listing: str

    def __bool__(self) -> bool:
        return bool(self.fetch or self.remove)


@dataclass(frozen=True)
class MirrorReport:
    """Numbers of objects that a synchronisation fetched, kept and removed, and the bytes it fetched."""

    fetched: int
    kept: int
    removed: int
    bytes: int


def mirror(
    store: ObjectStore, url: str, folder: Path, progress: Callable[[int, int, str], None] = lambda *_: None
) -> MirrorReport:
    """Bring `folder` up to date with the prefix `url`.

    One process at a time synchronises a folder; others wait for it. `progress` is told the MiB done, those to do, and "MiB".

    Raises:
        InputError: the prefix holds nothing or cannot be read.
        DataError: an object whose name cannot be a file, or that arrives damaged.
        ChangedObjectError: an object was replaced meanwhile.
    """
    prefix, arriving = Prefix.parse(url), _beside(folder, "arriving")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(_beside(folder, "lock")), _records(folder) as records:
        found = _difference(records, store.list(prefix))
        if not found.fetch and not found.kept:
            raise DataError(f"{prefix} holds no object; correct the prefix or upload the dataset there")
        for name in found.remove:
            (folder / name).unlink(missing_ok=True)
            records.remove(name)
        total, done = sum(entry.size for entry in found.fetch), 0
        shutil.rmtree(arriving, ignore_errors=True)
        try:
            for entry in store.fetch(prefix, found.fetch, arriving):
                with one_sentence(f"{prefix}{entry.name}"):
                    (folder / entry.name).parent.mkdir(parents=True, exist_ok=True)
                    (arriving / entry.name).replace(folder / entry.name)
                if stamp := records.stamp(entry.name):
                    records.put(entry.name, stamp, entry.etag)
                done += entry.size
                progress(done >> 20, total >> 20, "MiB")
        finally:
            shutil.rmtree(arriving, ignore_errors=True)
    return MirrorReport(len(found.fetch), found.kept, len(found.remove), total)


def difference(store: ObjectStore, url: str, folder: Path) -> Difference:
    """Return what `mirror` would do now; only the listing is fetched."""
    with _records(folder) as records:
        return _difference(records, store.list(Prefix.parse(url)))


def _difference(records: FileRecords, listed: Iterable[RemoteObject]) -> Difference:
    """An object is kept when its tag is the recorded one and its file is untouched."""
    known, fetch, kept, listing = records.names(), [], 0, hashlib.sha256()
    for entry in listed:
        listing.update(json.dumps([entry.name, entry.etag]).encode())
        known.discard(entry.name)
        stamp = records.stamp(entry.name)
        if stamp and stamp[0] == entry.size and records.get(entry.name, stamp) == entry.etag:
            kept += 1
        else:
            fetch.append(entry)
    return Difference(tuple(fetch), tuple(sorted(known)), kept, listing.hexdigest())


def _records(folder: Path) -> FileRecords:
    return FileRecords(_beside(folder, "sqlite"), folder, "objects", "etag")


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(f"{folder.name}.objects.{suffix}")
