"""Records of DVC: `dvc.lock` and `.dvc` files, read directly.

Asking DVC itself takes a second and fails while another process runs a stage. DVC writes `dvc.lock` in place, which takes it seconds where
there are hundreds of items; what is read here is never a part of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from dagster_dvc.project import DvcProject, DvcProjectError, Item, relative, repository_busy

_QUIET_SECONDS, _PAUSE = 5.0, 0.05


@dataclass(frozen=True)
class LockEntry:
    """The last run of an item: hashes of what it read and wrote by path relative to the root (or URL), and the parameters it used."""

    command: str | None
    deps: Mapping[str, str]
    outs: Mapping[str, str]
    params: Mapping[str, Mapping[str, Any]]

    @property
    def data_version(self) -> str:
        """Identity of what the item wrote: the hash of its output, else a digest of all; of the whole entry without outputs."""
        if len(self.outs) == 1:
            return next(iter(self.outs.values()))
        return digest(self.outs) if self.outs else self.fingerprint

    @property
    def fingerprint(self) -> str:
        """Identity of the whole entry: a run with other inputs or parameters differs even if it wrote the same."""
        return digest([self.command, self.deps, self.outs, self.params])


Found = Sequence[tuple[Item, LockEntry]]  # items with what DVC recorded of them


def digest(value: Any) -> str:
    """Return 32 hexadecimal digits that follow from a value of a YAML, TOML, JSON or Python file."""
    return hashlib.sha256(json.dumps(_plain(value), sort_keys=True, default=str).encode()).hexdigest()[:32]


def _plain(value: Any) -> Any:
    """Return a value with keys of one type, so that they can be sorted; sets, such as of a Python file, have no order of their own."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    ordered = sorted(value, key=digest) if isinstance(value, set | frozenset) else value
    return [_plain(inner) for inner in ordered] if isinstance(ordered, list | tuple) else ordered


def read_lock(project: DvcProject, items: Iterable[Item] | None = None) -> dict[str, LockEntry]:
    """Return the recorded entry of each item (all by default) by address; items that never ran are left out.

    A file that is not valid, or in conflict, is a DvcProjectError that names it.
    """
    chosen = list(project.items if items is None else items)
    contents = {record: _content(project.root / record, project.root) for record in {item.record for item in chosen}}
    found = {}
    for item in chosen:
        content = contents[item.record]
        if entry := content if item.command is None else content.get("stages", {}).get(item.lock_key):
            found[item.address] = _entry(entry, project.root / item.directory, project.root)
    return found


def state(project: DvcProject) -> str:
    """Return what changes whenever DVC recorded or fetched something: size, time and inode of its records and of all outputs."""
    records = {project.root / item.record for item in project.items}
    outputs = {project.root / out for item in project.items for out in item.outs}
    stats = [(path.as_posix(), path.stat()) for path in sorted(records | outputs) if path.exists()]
    return digest([[name, stat.st_size, stat.st_mtime_ns, stat.st_ino] for name, stat in stats])


def _content(path: Path, root: Path) -> Mapping[str, Any]:
    """Return what a record says, parsed as DVC does, by YAML 1.2 (in 1.1 a stage named `on` is true); nothing of one that is missing."""
    from dvc.exceptions import DvcException
    from dvc.utils.serialize import parse_yaml

    try:
        content = parse_yaml(_whole_text(path, root), path)
        if not all(isinstance(entry, dict) for entry in (content, *content.get("stages", {}).values())):
            raise TypeError("an entry is no mapping")
    except FileNotFoundError:
        return {}
    except (DvcException, AttributeError, TypeError, ValueError) as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        sentence = f"{path} is not a valid DVC file ({reason}); `git checkout` brings back the last one"
        raise DvcProjectError(sentence) from None
    return dict(content)


def _entry(entry: Mapping[str, Any], folder: Path, root: Path) -> LockEntry:
    def place(path: str) -> str:
        return path if "://" in path else relative(os.path.normpath(folder / path), root)

    command, params = entry.get("cmd"), entry.get("params") or {}
    deps, outs = ([one for one in entry.get(part) or [] if "path" in one] for part in ("deps", "outs"))
    return LockEntry(
        " && ".join(command) if isinstance(command, list) else command,
        {place(one["path"]): _identity(one) for one in deps},
        {place(one["path"]): _identity(one) for one in outs},
        {place(file): dict(values) for file, values in params.items()},
    )


def _identity(one: Mapping[str, Any]) -> str:
    """Return the hash of a file or folder; of what DVC records otherwise, such as files in a versioned bucket, a digest."""
    recorded = next((str(one[name]) for name in ("md5", "etag", "checksum") if name in one), None)
    files = [[file.get("relpath"), file.get("md5")] for file in one.get("files") or []]
    return recorded or digest(files or {key: value for key, value in one.items() if key != "path"})


def _file_clock(folder: Path) -> float:
    """Return the time by the clock of the file system below `folder`, which may be another machine's."""
    try:
        with TemporaryFile(dir=folder) as stream:
            return os.fstat(stream.fileno()).st_mtime
    except OSError:
        return time.time()


def _whole_text(path: Path, root: Path) -> str:
    """Return a lock file as DVC left it: unchanged while no DVC process holds the repository, or seconds after its last change."""
    while True:
        before, text = path.stat(), path.read_bytes()
        whole = not repository_busy(root) or _file_clock(path.parent) - before.st_mtime > _QUIET_SECONDS
        after = path.stat()
        if whole and (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size):
            return text.decode()
        time.sleep(_PAUSE)
