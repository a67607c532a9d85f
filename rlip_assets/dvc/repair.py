"""Repair of the files that DVC leaves half-written when it is killed, so that the next run starts at once.

DVC rewrites two files in place. `dvc.lock`, which a kill may cut off, costs the entries that are missing: DVC takes their results back from
its cache of runs. `.dvc/tmp/rwlock`, the list of paths that its processes are busy with, is worth nothing once those are gone. Neither is
touched while a DVC process is writing it.
"""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from rlip_assets.dvc.lock import CONFLICT, LOCK_FILE, REPOSITORY_LOCK
from rlip_assets.storage.files import write_text

_ENTRY = re.compile(r"^  \S", re.MULTILINE)
_END = re.compile(r"\n +(size|nfiles): \d+\n\Z")
"""The last line of a lock file that DVC has written to its end."""
_SLACK_SECONDS = 5.0
MOVED = {
    "rlip_assets/stage_versions.yaml": "rlip_assets/lineage/versions.yaml",
    "rlip_assets/external_weights/weights/": "rlip_assets/micro_world/starting_weights/weights/",
}
"""Inputs of stages that an update of the project moved without changing them: recorded results stay current under the new name."""


def repair(root: Path) -> list[str]:
    """Repair what a killed DVC process left in the profile at `root`, and follow moved inputs; return what was done, in sentences."""
    lock, busy = root / LOCK_FILE, root / ".dvc/tmp/rwlock"
    said = []
    if lock.exists():
        with holding(root / REPOSITORY_LOCK) as alone:
            if alone and _repair_lock(lock):
                said.append(
                    f"{lock} was cut off by a kill: its whole entries stay, DVC takes the other results from its cache of runs"
                )
            if alone and _follow_moves(lock):
                said.append(
                    f"{lock} named inputs by paths of an earlier version of the project: renamed, results stay current"
                )
    if busy.exists():
        with holding(busy.with_suffix(".lock")) as alone:
            if alone and (sentence := _repair_busy(busy)):
                said.append(f"{busy} {sentence}")
    return said


@contextmanager
def holding(guard: Path) -> Iterator[bool]:
    """Hold one of DVC's own locks, by `flock` as DVC does; False where a DVC process holds it, or where DVC has never worked."""
    try:
        stream = guard.open("a")
    except OSError:
        yield False
        return
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _repair_lock(path: Path) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace")
    if _END.search(text) or CONFLICT in text or _read_by_dvc(text):
        return False
    whole = whole_entries(text)
    if whole and not _read_by_dvc(whole):
        return False  # not cut off but damaged in the middle: a person has to look at it
    if whole:
        write_text(path, whole)
    else:
        path.unlink()
    return True


def _follow_moves(path: Path) -> bool:
    """Rename inputs that moved; True if the file changed."""
    if not path.exists():
        return False
    text = renamed = path.read_text(encoding="utf-8", errors="replace")
    for old, new in MOVED.items():
        renamed = renamed.replace(old, new)
    if renamed == text:
        return False
    write_text(path, renamed)
    return True


def _read_by_dvc(text: str) -> bool:
    """Return whether DVC takes a text for a lock file; asked only where the end looks odd, for importing DVC takes a second."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(text))
    except (yaml.YAMLError, Invalid):
        return False
    return True


def whole_entries(text: str) -> str:
    """Return a lock file up to its last entry, which may be cut off; empty where there is no entry before that."""
    entries = [match.start() for match in _ENTRY.finditer(text)]
    return text[: entries[-1]] if len(entries) > 1 else ""


def _repair_busy(path: Path) -> str | None:
    """Forget processes that are gone; says what was wrong, None where nothing was."""
    written = path.stat().st_mtime
    try:
        content = json.loads(path.read_text())
        modes = {mode: content.get(mode, {}) for mode in ("read", "write")}
        kept = {
            "write": {name: info for name, info in modes["write"].items() if _alive(info, written)},
            "read": {name: [info for info in infos if _alive(info, written)] for name, infos in modes["read"].items()},
        }
    except (ValueError, AttributeError, TypeError, KeyError):
        path.unlink()
        return "was cut off by a kill: removed"
    if kept == modes:
        return None
    write_text(path, json.dumps(kept))
    return "named paths of DVC processes that are gone: they are free"


def _alive(info: dict[str, Any], written: float) -> bool:
    """Return whether the process that an entry names is there, and not one that inherited its number later."""
    try:
        return bool(psutil.Process(int(info["pid"])).create_time() < written + _SLACK_SECONDS)
    except psutil.NoSuchProcess:
        return False
