"""Files that are there whole or not at all, with the permissions of the user's umask: temporary name, fsync, rename."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from rlip_assets.storage.errors import DataError
from rlip_model.permissions import apply_umask

CHUNK = 1 << 20


def temporary_sibling(path: Path) -> Path:
    """Return a free hidden name beside `path`."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_clock(folder: Path) -> float:
    """Return the time (seconds since the epoch) by the clock of the file system below `folder`, which may be another machine's.

    Where nothing can be written it is this machine's.
    """
    try:
        with TemporaryFile(dir=folder) as stream:
            return os.fstat(stream.fileno()).st_mtime
    except OSError:
        return time.time()


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; on success it replaces `path`, on failure it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(path)
    try:
        yield temporary
        put_in_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, many_files: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder to fill; on success it replaces the folder `path`, on failure it is removed.

    With `many_files` one sync of the whole system stands for those of thousands of files, which take minutes.
    A folder has one writer at a time (callers hold a lock), so what a killed one left behind is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
    temporary = temporary_sibling(path)
    temporary.mkdir()
    try:
        yield temporary
        put_in_place(temporary, path, many_files=many_files)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_in_place(made: Path, path: Path, *, many_files: bool = False) -> None:
    """Sync a finished file or folder to disk and give it the name `path`, on the same file system.

    An old folder is moved aside first, so that a reader sees the old or the new, never a mixture; it comes back where the renaming fails.
    """
    for file in [made, *made.rglob("*")]:
        apply_umask(file)
        if not many_files:
            _sync(file)
    if many_files:
        os.sync()
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = temporary_sibling(path)
    if made.is_dir() and path.exists():
        path.rename(aside)
    try:
        os.replace(made, path)
    except OSError:
        if aside.exists():
            aside.rename(path)
        raise
    _sync(path.parent)
    if aside.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` atomically, UTF-8."""
    write_bytes(path, content.encode())


def canonical_json(value: Any) -> str:
    """Return the JSON text of `value` with sorted keys and no spaces: equal values have equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically."""
    write_text(path, json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """Return the JSON object in a file that the project wrote.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it holds something else; the sentence ends with `remedy`.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); {remedy}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a JSON object; {remedy}")
    return content


def digest_json(value: Any) -> str:
    """Return the SHA-256 (hex) of the canonical JSON text of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_folder(folder: Path, ignore: tuple[str, ...] = ()) -> str:
    """Return the SHA-256 (hex) over the sorted relative names and contents of a folder's files; names in `ignore` are left out."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in ignore)
    return digest_json([[file.relative_to(folder).as_posix(), sha256_file(file)] for file in files])
