"""The rule for every output argument of every command: what stands there stays, unless the same command wrote it.

An output is new, or an earlier output of the same command to which nothing was added and in which nothing was changed. Anything
else is refused with one sentence and is not touched, and so is a symbolic link, or an output that would replace a source.
A file is known by a mark in its bytes, a folder by the checksums (in the form of `sha256sum`) that the command leaves in it.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from rlip_assets.storage.errors import ParameterError
from rlip_assets.storage.files import atomic_file, put_in_place, sha256_file, temporary_sibling

_HEAD, _TAIL = 4096, 65536
"""Bytes at the start and at the end of a file in which its mark may stand."""
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
"""Names that a killed `atomic_file` leaves."""


@contextmanager
def output_file(path: Path, command: str, mark: bytes, sources: Iterable[Path] = ()) -> Iterator[Path]:
    """Yield a temporary path to write; on success it becomes `path`.

    Args:
        path: a new file, or one that holds `mark` near its start or end.
        command: name of the command, such as "draw".
        sources: what the command reads; none of it may be the output or hold it.

    Raises:
        ParameterError: `path` is anything else.
    """
    path, sources = _placed(path), list(sources)

    def check() -> None:
        mode = _kind(path, command, sources)
        if mode is None:
            return
        if stat.S_ISDIR(mode):
            _refuse(path, f"is a folder, but `rlip {command}` writes a file")
        if not stat.S_ISREG(mode) or not _has_mark(path, mark):
            _refuse(path, f"exists and `rlip {command}` did not write it")

    check()
    with _parents(path), atomic_file(path) as temporary:
        yield temporary
        check()


@contextmanager
def output_folder(path: Path, command: str, sources: Iterable[Path] = ()) -> Iterator[Path]:
    """Yield an empty temporary folder to fill; on success it becomes `path`.

    Args:
        path: a new or empty folder, or one that the command made; its content is replaced.
        command, sources: as for `output_file`.

    Raises:
        ParameterError: `path` is anything else.
    """
    folder = OutputFolder(path, command, sources)
    folder.check()
    with _parents(folder.path):
        temporary = temporary_sibling(folder.path)
        temporary.mkdir()
        try:
            yield temporary
            for file in sorted(file for file in temporary.rglob("*") if file.is_file()):
                _add_sum(temporary / folder.sums, file.relative_to(temporary).as_posix(), file)
            folder.check()
            put_in_place(temporary, folder.path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


class OutputFolder:
    """A folder to which a command adds files; see `output_folder` for the arguments."""

    def __init__(self, path: Path, command: str, sources: Iterable[Path] = ()) -> None:
        self.path, self.sums = _placed(path), f".rlip-{command.replace(' ', '-')}.sha256"
        self._command, self._sources = command, list(sources)

    def check(self, names: Iterable[str] | None = None) -> None:
        """Refuse the folder where it holds a file of anyone else, or where a file that is to be replaced was changed.

        Args:
            names: files to be replaced; all by default.

        Raises:
            ParameterError: it is refused.
        """
        mode = _kind(self.path, self._command, self._sources)
        if mode is None:
            return
        if not stat.S_ISDIR(mode):
            _refuse(self.path, f"is no folder, but `rlip {self._command}` writes one")
        known = _read_sums(self.path / self.sums)
        found = {entry.relative_to(self.path).as_posix(): entry for entry in self.path.rglob("*")}
        if not found.get(self.sums, self.path).is_symlink():
            found.pop(self.sums, None)
        folders = {name for name, entry in found.items() if entry.is_dir() and not entry.is_symlink()}
        used = {parent.as_posix() for name in known for parent in Path(name).parents}
        for name in sorted(found.keys() - known.keys() - (folders & used)):
            if names is None or not _TEMPORARY.fullmatch(name):
                _refuse(self.path, f"holds {name}, which `rlip {self._command}` did not write")
        for name in sorted(found.keys() & known.keys() if names is None else found.keys() & set(names)):
            if not stat.S_ISREG(found[name].lstat().st_mode) or sha256_file(found[name]) not in known[name]:
                _refuse(self.path / name, f"was changed after `rlip {self._command}` wrote it")

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Yield a temporary path to write; on success it becomes the file `name`."""
        with atomic_file(self.path / name) as temporary:
            yield temporary
            _add_sum(self.path / self.sums, name, temporary)  # before the rename: a killed command knows its files


def _placed(path: Path) -> Path:
    """Return the absolute path whose last part alone may be a symbolic link."""
    return Path(os.path.realpath(path.parent), path.name) if path.name not in ("", "..") else path.resolve()


def _refuse(path: Path, why: str) -> NoReturn:
    raise ParameterError(f"{path} {why}: nothing was touched; name a new place, or move away what is there")


def _kind(path: Path, command: str, sources: Iterable[Path]) -> int | None:
    """Return the mode of what stands at `path`, None for nothing; refuse links, parents that are no folder, and sources."""
    parent = next(parent for parent in path.parents if os.path.lexists(parent))
    if not parent.is_dir():
        _refuse(parent, f"is no folder, but `rlip {command}` is to write into it")
    for source in (Path(os.path.realpath(source)) for source in sources):
        if source == path:
            _refuse(path, f"is what `rlip {command}` reads")
        if source.is_relative_to(path):
            _refuse(path, f"holds {source}, which `rlip {command}` reads")
        if source.is_dir() and path.is_relative_to(source):
            _refuse(path, f"lies in {source}, which `rlip {command}` reads")
    if not os.path.lexists(path):
        return None
    if path.is_symlink():
        _refuse(path, "is a symbolic link")
    return path.lstat().st_mode


def _has_mark(path: Path, mark: bytes) -> bool:
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
        stream.seek(max(0, path.stat().st_size - _TAIL))
        return mark in head or mark in stream.read(_TAIL)


def _add_sum(sums: Path, name: str, file: Path) -> None:
    with sums.open("ab") as stream:
        stream.write(f"{sha256_file(file)}  ".encode() + os.fsencode(name) + b"\n")


def _read_sums(sums: Path) -> dict[str, set[str]]:
    """Return the checksums that each file of a folder may have; a line that was cut off counts for nothing."""
    known: dict[str, set[str]] = defaultdict(set)
    if sums.is_file() and not sums.is_symlink():
        for line in sums.read_bytes().split(b"\n"):
            digest, _, name = line.partition(b"  ")
            known[os.fsdecode(name)].add(digest.decode(errors="replace"))
    return dict(known)


@contextmanager
def _parents(path: Path) -> Iterator[None]:
    """Make the folders above `path`; those that were made go again where the work fails."""
    new = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for parent in new:
            with suppress(OSError):
                parent.rmdir()
        raise
