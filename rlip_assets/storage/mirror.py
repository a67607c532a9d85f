"""A local folder that follows a prefix of an object store: only new and changed objects are fetched, removed ones are removed.

What the folder holds is remembered in a small database beside it: name, size and tag as the store listed them, and the SHA-256 of what
arrived. A killed synchronisation is continued by the next one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from filelock import FileLock

from rlip_assets.storage.errors import DataError
from rlip_assets.storage.files import digest_json
from rlip_assets.storage.object_store import ObjectStore, Prefix, RemoteObject

_WORKERS = 16
_COMMIT_EVERY = 200


@dataclass(frozen=True)
class Difference:
    """What a prefix has that its mirror has not, and the other way round. Names in order."""

    fetch: tuple[RemoteObject, ...]
    remove: tuple[str, ...]
    kept: int

    def __bool__(self) -> bool:
        return bool(self.fetch or self.remove)

    @property
    def digest(self) -> str:
        """Identity of the difference: equal differences have equal digests."""
        return digest_json([[(entry.name, entry.etag) for entry in self.fetch], list(self.remove)])


@dataclass(frozen=True)
class MirrorReport:
    """What a synchronisation did: numbers of objects, and bytes fetched."""

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
    prefix = Prefix.parse(url)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(_beside(folder, "lock")), _records(folder) as rows:
        found = _difference(rows, store.list(prefix), folder)
        if not found.fetch and not found.kept:
            raise DataError(f"{prefix} holds no object; correct the prefix or upload the dataset there")
        total, done = sum(entry.size for entry in found.fetch), 0
        with ThreadPoolExecutor(_WORKERS) as pool:
            for number, (entry, digest) in enumerate(_downloads(pool, store, prefix, found.fetch, folder), 1):
                stamp = (folder / entry.name).stat().st_mtime_ns
                rows.execute(
                    "insert or replace into objects values (?, ?, ?, ?, ?)",
                    (entry.name, entry.size, entry.etag, digest, stamp),
                )
                done += entry.size
                progress(done >> 20, total >> 20, "MiB")
                if number % _COMMIT_EVERY == 0:
                    rows.commit()
        for name in found.remove:
            (folder / name).unlink(missing_ok=True)
            rows.execute("delete from objects where name = ?", (name,))
    return MirrorReport(len(found.fetch), found.kept, len(found.remove), total)


def difference(store: ObjectStore, url: str, folder: Path) -> Difference:
    """What `mirror` would do now; fetches nothing but the listing."""
    with _records(folder) as rows:
        return _difference(rows, store.list(Prefix.parse(url)), folder)


def checksums(folder: Path) -> dict[str, str]:
    """Name -> SHA-256 of what the mirror holds."""
    with _records(folder) as rows:
        return dict(rows.execute("select name, sha256 from objects order by name"))


def is_mirror(folder: Path) -> bool:
    """Whether the folder was ever synchronised."""
    return folder.is_dir() and _beside(folder, "sqlite").exists()


def _difference(rows: sqlite3.Connection, listed: Iterable[RemoteObject], folder: Path) -> Difference:
    """An object is kept when its tag is the recorded one and its file is untouched."""
    known = {name: tuple(rest) for name, *rest in rows.execute("select name, size, etag, time from objects")}
    fetch, kept = [], 0
    for entry in listed:
        size, etag, time = known.pop(entry.name, (None, None, None))
        if (size, etag) == (entry.size, entry.etag) and _stamp(folder / entry.name) == (size, time):
            kept += 1
        else:
            fetch.append(entry)
    return Difference(tuple(fetch), tuple(sorted(known)), kept)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stat.st_size, stat.st_mtime_ns


def _downloads(
    pool: ThreadPoolExecutor, store: ObjectStore, prefix: Prefix, objects: Iterable[RemoteObject], folder: Path
) -> Iterator[tuple[RemoteObject, str]]:
    """Objects as they arrive, with their SHA-256; a failure ends the others after the ones in flight."""
    waiting = iter(objects)
    running: dict[Future[str], RemoteObject] = {}
    while True:
        for entry in islice(waiting, 2 * _WORKERS - len(running)):
            running[pool.submit(store.download, prefix, entry, folder / entry.name)] = entry
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            yield running.pop(future), future.result()


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(f"{folder.name}.objects.{suffix}")


@contextmanager
def _records(folder: Path) -> Iterator[sqlite3.Connection]:
    """The database of a mirror; what was written is kept even when the block fails."""
    path = _beside(folder, "sqlite")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        rows = sqlite3.connect(path, timeout=60)
        rows.execute(
            "create table if not exists objects (name text primary key, size int, etag text, sha256 text, time int)"
        )
    except sqlite3.DatabaseError as error:
        raise DataError(f"{path} is not the record of a mirror ({error}); delete it to synchronise afresh") from None
    with closing(rows):
        try:
            yield rows
        finally:
            rows.commit()
