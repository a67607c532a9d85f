"""`dvc.lock`, read directly.

Asking DVC itself takes a second and fails while another process runs a stage. DVC writes the file in place, which takes it seconds where
there are hundreds of items; what is read here is never a part of it. Its own lock is taken as DVC takes it, by `flock`, but shared.
"""

from __future__ import annotations

import fcntl
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rlip_assets.dvc.cache import DIRECTORY, listed_files, objects_folder
from rlip_assets.lineage.spec import MANIFEST_NAME, PROVENANCE_FOLDER, StageItem, overlaps
from rlip_assets.storage.errors import DataError
from rlip_assets.storage.files import digest_json, file_clock

LOCK_FILE = "dvc.lock"
CONFLICT = "<<<<<<<"
REPOSITORY_LOCK = ".dvc/tmp/lock"
"""Held by DVC while it writes the lock file, and at other times too: while it hashes and moves data."""
_QUIET_SECONDS, _PAUSE = 5.0, 0.05
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class LockEntry:
    """The last run of one item: hashes of what it read and wrote, parameters it used."""

    command: str
    deps: Mapping[str, str]
    outs: Mapping[str, str]
    params: Mapping[str, Mapping[str, Any]]

    @property
    def data_version(self) -> str:
        """Identity of what the item wrote: the hash of its output, or a digest of the hashes of several."""
        if len(self.outs) == 1:
            return next(iter(self.outs.values()))
        return digest_json(dict(self.outs))[:32]

    @property
    def made_from(self) -> tuple[str, dict[str, str], dict[str, dict[str, Any]]]:
        """Everything that the outputs follow from: command, hashes of the inputs, parameters by file."""
        return self.command, dict(self.deps), {file: dict(values) for file, values in self.params.items()}


class DvcLock:
    """The entries of a profile's `dvc.lock` by address; empty where nothing ran yet."""

    def __init__(self, entries: Mapping[str, LockEntry]) -> None:
        self.entries = dict(entries)

    @classmethod
    def read(cls, root: Path) -> DvcLock:
        """Return the lock of the profile whose root folder is `root`.

        Raises:
            DataError: the file is not a lock.
        """
        path = root / LOCK_FILE
        try:
            return cls(parse_lock(_whole_text(path), path))
        except FileNotFoundError:
            return cls({})

    def get(self, address: str) -> LockEntry | None:
        """Return the entry of an item, None if it never ran."""
        return self.entries.get(address)

    def output_hash(self, path: str) -> str | None:
        """Recorded hash of what lies at `path`: of an output, or of all outputs inside it together."""
        found = {out: md5 for entry in self.entries.values() for out, md5 in entry.outs.items() if overlaps(path, out)}
        if path in found:
            return found[path]
        return digest_json(found)[:32] if found else None


def parse_lock(text: str, path: Path) -> dict[str, LockEntry]:
    """Return the entries of a lock file by address; `path` is for messages.

    Raises:
        DataError: it is not the text of a lock.
    """
    if CONFLICT in text:
        raise DataError(
            f"{path} has merge conflicts; resolve them (`git checkout --theirs {LOCK_FILE}` takes the other side), then `dvc checkout`"
        )
    try:
        stages = (yaml.load(text, Loader=_Loader) or {}).get("stages", {})
        return {address: _entry(stage) for address, stage in stages.items()}
    except (yaml.YAMLError, KeyError, AttributeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path} is not a DVC lock file ({reason}); `rlip repair` puts right what a kill cut off, `git checkout {LOCK_FILE}` the rest"
        ) from None


def read_stages(root: Path) -> dict[str, Any]:
    """Return the entries of a profile's lock by address as DVC writes them; empty where nothing ran yet.

    Raises:
        DataError: the file is not a lock.
    """
    path = root / LOCK_FILE
    try:
        text = _whole_text(path)
    except FileNotFoundError:
        return {}
    parse_lock(text, path)
    return dict((yaml.load(text, Loader=_Loader) or {}).get("stages", {}))


def _whole_text(path: Path) -> str:
    """Return a whole lock file: read while no DVC process holds the repository, or seconds after the last change of the file."""
    while True:
        try:
            with (path.parent / REPOSITORY_LOCK).open() as held:
                fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return path.read_text(errors="replace")
        except BlockingIOError:
            before = path.stat()
            text = path.read_text(errors="replace")
            changed = path.stat().st_mtime_ns != before.st_mtime_ns
            if not changed and file_clock(path.parent) - before.st_mtime > _QUIET_SECONDS:
                return text
            time.sleep(_PAUSE)
        except FileNotFoundError:  # no DVC process has ever worked here, or there is no lock file
            return path.read_text(errors="replace")


def present(item: StageItem, root: Path) -> bool:
    """Return whether all outputs of an item exist in the tree."""
    return all((root / path).exists() for path in item.outputs.values())


def holds(root: Path, item: StageItem, outs: Mapping[str, str]) -> bool:
    """Return whether the tree holds the outputs with the recorded hashes `outs`, cheaply: by files, and by manifests of its folders.

    A lock can speak of results that are not here: it is committed, and `git pull` may bring another one. What DVC made or fetched on this
    machine has a list of its files in DVC's cache; the manifest in that list changes with every input, parameter and figure.
    """
    objects = objects_folder(root)
    for path in item.outputs.values():
        file, md5 = root / path, outs.get(path, "")
        if md5.endswith(DIRECTORY):
            try:
                listed = listed_files(objects, md5)
            except (FileNotFoundError, DataError):
                return False
            md5 = next((one["md5"] for one in listed if one["relpath"] == MANIFEST_NAME), "")
            file /= MANIFEST_NAME
        if not file.is_file() or hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() != md5:
            return False
    return True


def _entry(stage: Mapping[str, Any]) -> LockEntry:
    return LockEntry(
        command=str(stage["cmd"]),
        deps={dep["path"]: dep.get("md5", "") for dep in stage.get("deps", [])},
        outs={
            out["path"]: out.get("md5", "")
            for out in stage.get("outs", [])
            if not out["path"].startswith(f"{PROVENANCE_FOLDER}/")
        },
        params={file: dict(values) for file, values in stage.get("params", {}).items()},
    )
