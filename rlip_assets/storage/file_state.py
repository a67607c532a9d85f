"""States of files, which tell without reading a file that it has the content that it had before.

The file system's own time of the last change (ctime) is compared: copying and unpacking set the time of modification to that of another
file, and a new file of the same size could pass for the old one. These times advance in steps; two changes within one step look the same.
"""

from __future__ import annotations

from pathlib import Path
from stat import S_ISREG
from time import time_ns

from rlip_assets.storage.errors import OF_THE_MACHINE
from rlip_assets.storage.files import sha256_file

Stamp = tuple[int, int]
"""Size in bytes and time of the last change in nanoseconds."""

_STEP, _COARSE_STEP = 20_000_000, 2_000_000_000
"""File times advance with the clock of the kernel, by at most 10 ms, and on some file systems by whole seconds or two."""


def change_stamp(path: Path) -> Stamp | None:
    """Return size and time of the last change of a file; None where it is missing or no regular file.

    Raises:
        OSError: nothing can be told.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (found.st_size, found.st_ctime_ns) if S_ISREG(found.st_mode) else None


def is_settled(stamp: Stamp) -> bool:
    """Return whether any change from now on gives the file another stamp."""
    step = _STEP if stamp[1] % 1_000_000_000 else _COARSE_STEP
    return time_ns() - stamp[1] > step


def content_state(path: Path) -> tuple[int, int, str] | None:
    """Return a value that changes with the content of a file: its stamp and, until that is settled, its SHA-256; None where the file cannot
    be read.

    Raises:
        OSError: one of `OF_THE_MACHINE`, which say nothing about the file.
    """
    try:
        stamp = change_stamp(path)
        return stamp and (*stamp, "" if is_settled(stamp) else sha256_file(path))
    except OSError as error:
        if error.errno in OF_THE_MACHINE:
            raise
        return None
