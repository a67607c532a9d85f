"""Checksums of files, remembered from run to run."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from types import TracebackType

from rlip_assets.storage.errors import DataError
from rlip_assets.storage.files import sha256_file


class Checksums:
    """SHA-256 of files, remembered in a small database by name, size and time, so that a terabyte is hashed once.

    A context manager; what was computed is kept even when the block is killed.
    """

    _COMMIT_EVERY = 500

    def __init__(self, database: Path, root: Path) -> None:
        database.parent.mkdir(parents=True, exist_ok=True)
        self._root = root
        self._pending = 0
        try:
            self._rows = sqlite3.connect(database, timeout=60)
            with closing(self._rows.cursor()) as cursor:
                cursor.execute(
                    "create table if not exists sums (name text primary key, size int, time int, sha256 text)"
                )
        except sqlite3.DatabaseError as error:
            raise DataError(f"{database} is not a checksum cache ({error}); delete it") from None

    def __enter__(self) -> Checksums:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.commit()
        self._rows.close()

    def of(self, file_name: str) -> tuple[int | None, str | None]:
        """(bytes, sha256) of a file relative to the root; (None, None) when it is missing or no file."""
        path = self._root / file_name
        if not path.is_file():
            return None, None
        stat = path.stat()
        stamp = (file_name, stat.st_size, stat.st_mtime_ns)
        found = self._rows.execute("select sha256 from sums where name = ? and size = ? and time = ?", stamp).fetchone()
        if found:
            return stat.st_size, str(found[0])
        checksum = sha256_file(path)
        self._rows.execute("insert or replace into sums values (?, ?, ?, ?)", (*stamp, checksum))
        self._pending += 1
        if self._pending % self._COMMIT_EVERY == 0:
            self._rows.commit()
        return stat.st_size, checksum
