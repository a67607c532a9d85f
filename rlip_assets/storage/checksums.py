"""Texts about files, such as checksums, remembered from run to run while a file keeps its size and time."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from stat import S_ISREG
from types import TracebackType

from rlip_assets.storage.errors import OF_THE_MACHINE, DataError
from rlip_assets.storage.file_state import Stamp, change_stamp, is_settled
from rlip_assets.storage.files import sha256_file
from rlip_assets.storage.images import BadImageError, image_inside


class FileRecords:
    """A text about each file below a root, in a small database.

    A context manager; what was written is kept even when the block fails or is killed.
    """

    _COMMIT_EVERY = 500

    def __init__(self, database: Path, root: Path, table: str, column: str) -> None:
        database.parent.mkdir(parents=True, exist_ok=True)
        self._root, self._table, self._column = root, table, column
        self._pending = 0
        try:
            self._rows = sqlite3.connect(database, timeout=60)
            self._rows.execute(
                f"create table if not exists {table} (name text primary key, size int, time int, {column} text)"
            )
        except sqlite3.DatabaseError as error:
            raise DataError(f"{database} is not a record of {table} ({error}); delete it") from None

    def __enter__(self) -> FileRecords:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.commit()
        self._rows.close()

    def names(self) -> set[str]:
        """Return the names of all recorded files, changed or not."""
        return {name for (name,) in self._rows.execute(f"select name from {self._table}")}

    def stamp(self, name: str) -> Stamp | None:
        """Return size and time of modification of a file as it is now, None where it is missing or no file."""
        try:
            found = (self._root / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return (found.st_size, found.st_mtime_ns) if S_ISREG(found.st_mode) else None

    def get(self, name: str, stamp: Stamp | None) -> str | None:
        """Return the text of a file, None where none was recorded for this size and time."""
        if stamp is None:
            return None
        where = "name = ? and size = ? and time = ?"
        found = self._rows.execute(f"select {self._column} from {self._table} where {where}", (name, *stamp)).fetchone()
        return str(found[0]) if found else None

    def put(self, name: str, stamp: Stamp, text: str) -> None:
        """Record the text of a file of this size and time."""
        columns = f"(name, size, time, {self._column})"
        self._rows.execute(f"insert or replace into {self._table} {columns} values (?, ?, ?, ?)", (name, *stamp, text))
        self._pending += 1
        if self._pending % self._COMMIT_EVERY == 0:
            self._rows.commit()

    def remove(self, name: str) -> None:
        """Forget a file."""
        self._rows.execute(f"delete from {self._table} where name = ?", (name,))


class Checksums(FileRecords):
    """SHA-256 of files, so that a terabyte is hashed once."""

    def __init__(self, database: Path, root: Path) -> None:
        super().__init__(database, root, "sums", "sha256")

    def __enter__(self) -> Checksums:
        return self

    def stamp(self, name: str) -> Stamp | None:
        """Return size and time of the last change of a file, which tells more; see `file_state`."""
        return change_stamp(self._root / name)

    def of(self, file_name: str) -> tuple[int | None, str | None]:
        """Return (bytes, sha256) of a file inside the root; None for what cannot be known of it."""
        try:
            path = image_inside(self._root, file_name)
            if (stamp := self.stamp(file_name)) is None:
                return None, None
            checksum = self.get(file_name, stamp)
            if checksum is None:
                settled, checksum = is_settled(stamp), sha256_file(path)
                if settled:
                    self.put(file_name, stamp, checksum)
        except (BadImageError, OSError) as error:  # the stage that opens the file says why
            if getattr(error, "errno", None) in OF_THE_MACHINE:
                raise
            return None, None
        return stamp[0], checksum
