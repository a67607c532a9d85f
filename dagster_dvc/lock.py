"""Records of DVC: `dvc.lock` and `.dvc` files, read directly.

Asking DVC itself takes a second and fails while another process runs a stage. DVC writes `dvc.lock` in place, which takes it seconds where
there are hundreds of items; what is read here is never a part of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import yaml

from dagster_dvc.project import REPOSITORY_LOCK, DvcProject, DvcProjectError, Item

LOCK_FILE = "dvc.lock"
_QUIET_SECONDS, _PAUSE = 5.0, 0.05
_HASHES = ("md5", "etag", "checksum")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class LockEntry:
    """The last run of an item: hashes of what it read and wrote by path relative to the root, and the parameters it used."""

    command: str | None
    deps: Mapping[str, str]
    outs: Mapping[str, str]
    params: Mapping[str, Mapping[str, Any]]

    @property
    def data_version(self) -> str:
        """Identity of what the item wrote: the hash of its output, else a digest of all; of the whole entry without outputs."""
        if len(self.outs) == 1:
            return next(iter(self.outs.values()))
        return digest(dict(self.outs)) if self.outs else self.fingerprint

    @property
    def fingerprint(self) -> str:
        """Identity of the whole entry: a run with other inputs or parameters differs even if it wrote the same."""
        return digest([self.command, dict(self.deps), dict(self.outs), {k: dict(v) for k, v in self.params.items()}])


def digest(value: Any) -> str:
    """Return 32 hexadecimal digits that follow from a JSON-like value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]


def read_lock(project: DvcProject, items: Iterable[Item] | None = None) -> dict[str, LockEntry]:
    """Return the recorded entry of each item (all by default) by address; items that never ran are left out.

    Raises:
        DvcProjectError: a file is no lock file, or it is in conflict; the sentence names it.
    """
    chosen = list(project.items if items is None else items)
    folders = {item.folder for item in chosen if item.command is not None}
    files = {folder: _stages(project.root, folder) for folder in folders}
    found = {}
    for item in chosen:
        entry = files[item.folder].get(item.lock_key) if item.command is not None else _dvc_file(project.root, item)
        if entry is not None:
            found[item.address] = _entry(entry, item)
    return found


def state(project: DvcProject) -> str:
    """Return what changes whenever DVC recorded or fetched something: size, time and inode of its records and of all outputs."""
    records = {_record_path(project.root, item) for item in project.items}
    outputs = {project.root / out for item in project.items for out in item.outs}
    stats = [(path.as_posix(), path.stat()) for path in sorted(records | outputs) if path.exists()]
    return digest([[name, stat.st_size, stat.st_mtime_ns, stat.st_ino] for name, stat in stats])


def _record_path(root: Path, item: Item) -> Path:
    return root / item.folder / LOCK_FILE if item.command is not None else root / item.address


def _stages(root: Path, folder: str) -> Mapping[str, Any]:
    path = root / folder / LOCK_FILE
    try:
        content = yaml.load(_whole_text(path, root), Loader=_Loader) or {}
        stages = content.get("stages", {})
        if not all(isinstance(entry, dict) for entry in stages.values()):
            raise TypeError("an entry is no mapping")
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DvcProjectError(
            f"{path} is not a DVC lock file ({reason}); `git checkout` brings back the last one"
        ) from None
    return dict(stages)


def _dvc_file(root: Path, item: Item) -> Mapping[str, Any] | None:
    try:
        content = yaml.load((root / item.address).read_text(), Loader=_Loader)
    except FileNotFoundError:
        return None
    return content if isinstance(content, dict) else None


def _entry(entry: Mapping[str, Any], item: Item) -> LockEntry:
    command = entry.get("cmd")

    def place(path: str) -> str:
        return os.path.normpath(Path(item.directory) / path)

    def hashes(part: str) -> dict[str, str]:
        return {
            place(one["path"]): next((str(one[name]) for name in _HASHES if name in one), "")
            for one in entry.get(part) or []
            if isinstance(one, dict) and "path" in one
        }

    return LockEntry(
        command if command is None or isinstance(command, str) else " && ".join(command),
        hashes("deps"),
        hashes("outs"),
        {place(file): dict(values) for file, values in (entry.get("params") or {}).items()},
    )


def _file_clock(folder: Path) -> float:
    """Return the time by the clock of the file system below `folder`, which may be another machine's."""
    try:
        with TemporaryFile(dir=folder) as stream:
            return os.fstat(stream.fileno()).st_mtime
    except OSError:
        return time.time()


def _whole_text(path: Path, root: Path) -> str:
    """Return a lock file as DVC left it: read while no DVC process holds the repository, or seconds after its last change."""
    while True:
        try:
            with (root / REPOSITORY_LOCK).open() as held:
                fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return path.read_text()
        except BlockingIOError:
            before = path.stat()
            text = path.read_text()
            if (
                path.stat().st_mtime_ns == before.st_mtime_ns
                and _file_clock(path.parent) - before.st_mtime > _QUIET_SECONDS
            ):
                return text
            time.sleep(_PAUSE)
        except FileNotFoundError:  # no DVC process has ever worked here, or there is no lock file
            return path.read_text()
