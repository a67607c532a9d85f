"""Files of a profile that nothing refers to any more.

A `dvc.lock` refers to data (the one in the tree, and those of all branches and tags); the caller tells what else is kept. Everything
younger than a day, or than another age, is left alone: it may belong to a run that has not ended.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from rlip_assets.dvc.lock import LOCK_FILE
from rlip_assets.lineage.params.sources import WORLD_FOLDER
from rlip_assets.lineage.spec import Registry, overlaps
from rlip_assets.lineage.stage_run import WORK_FOLDER
from rlip_assets.storage.errors import InputError

YOUNG_SECONDS = 24 * 3600.0
_DIRECTORY = ".dir"
_DIGITS = frozenset("0123456789abcdef")
_RUN_DIGITS = 16


@dataclass(frozen=True)
class Keep:
    """References besides the lock files: hashes of DVC, and files and folders relative to the profile's root."""

    hashes: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Garbage:
    """A file or folder that nothing refers to: why it is there, and its size."""

    path: Path
    kind: str
    bytes: int


def find_garbage(
    registry: Registry, root: Path, keep: Keep, now: float | None = None, young: float = YOUNG_SECONDS
) -> list[Garbage]:
    """What may be removed from the profile at `root`, by kind and path.

    Args:
        keep: what is referred to elsewhere, such as by runs of the tracking store.
        now: seconds since the epoch; by default the current time.
        young: what changed in these last seconds is left alone.

    Raises:
        InputError: DVC does not say where its cache is.
    """
    found = {
        "DVC cache": _cache_files(_cache_folder(root), locked_hashes(root) | keep.hashes),
        "output of no stage": _strange_outputs(registry, root, keep.paths | {WORLD_FOLDER}),
        "shards of no partition": _strange_shards(registry, root),
        "unfinished run": _unfinished(registry, root),
        "table for training, outdated": _outdated_stores(root, keep.paths),
    }
    old = (time.time() if now is None else now) - young
    return [
        Garbage(path, kind, _size(path))
        for kind, paths in found.items()
        for path in sorted(paths)
        if _newest(path) < old
    ]


def remove(garbage: list[Garbage]) -> None:
    """Delete what was found."""
    for entry in garbage:
        if entry.path.is_dir() and not entry.path.is_symlink():
            shutil.rmtree(entry.path)
        else:
            entry.path.unlink(missing_ok=True)


def locked_hashes(root: Path) -> set[str]:
    """Return the hashes that a lock file of the profile names."""
    texts = [(root / LOCK_FILE).read_text()] if (root / LOCK_FILE).exists() else []
    return {value for text in [*texts, *_committed_locks(root)] for value in _hashes(yaml.safe_load(text))}


def _hashes(value: object) -> Iterator[str]:
    """Every `md5` in a lock file."""
    if isinstance(value, dict):
        if isinstance(value.get("md5"), str):
            yield value["md5"]
        for entry in value.values():
            yield from _hashes(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _hashes(entry)


def _committed_locks(root: Path) -> Iterator[str]:
    """The lock file at the head of every branch and at every tag; nothing outside a git repository."""
    refs = _git(root, "for-each-ref", "--format=%(objectname)")
    for name in sorted(set((refs or "").split())):
        text = _git(root, "show", f"{name}:./{LOCK_FILE}")
        if text:
            yield text


def _git(root: Path, *arguments: str) -> str | None:
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def _cache_folder(root: Path) -> Path:
    result = subprocess.run(
        [sys.executable, "-m", "dvc", "cache", "dir"], cwd=root, capture_output=True, text=True, check=False
    )
    if result.returncode:
        problem = " ".join(result.stderr.split())
        raise InputError(
            f"{root} has no DVC cache to look at ({problem[:200]}); run `dvc init` there or name another profile"
        )
    return Path(result.stdout.strip()) / "files" / "md5"


def _cache_files(cache: Path, kept: set[str]) -> Iterator[Path]:
    """Objects whose hash is not kept and that no kept folder lists."""
    files = {path.parent.name + path.name: path for path in cache.glob("??/*")}
    kept = set(kept)
    for name in list(kept):
        if name.endswith(_DIRECTORY) and name in files:
            kept |= {entry["md5"] for entry in json.loads(files[name].read_text())}
    return (path for name, path in files.items() if name not in kept)


def _strange_outputs(registry: Registry, root: Path, kept: frozenset[str]) -> Iterator[Path]:
    """Folders below `data` and files of `provenance` that no stage of the profile writes; raw data is not looked at."""
    known = [path for item in registry.items() for path in (*item.outputs.values(), item.provenance)]
    for top in sorted({path.split("/")[0] for path in known if "/" in path}):
        yield from _strangers(root, Path(top), known, kept)


def _strangers(root: Path, folder: Path, known: list[str], kept: frozenset[str]) -> Iterator[Path]:
    for path in sorted((root / folder).iterdir()) if (root / folder).is_dir() else []:
        name = path.relative_to(root).as_posix()
        if name in kept or path.name.startswith("."):
            continue
        inside = [entry for entry in known if overlaps(name, entry)]
        if not inside:
            if len(folder.parts) > 1 or folder.name != "data" or not path.is_dir():
                yield path
        elif name not in inside and path.is_dir() and all(entry.startswith(f"{name}/") for entry in inside):
            yield from _strangers(root, Path(name), known, kept)


def _strange_shards(registry: Registry, root: Path) -> Iterator[Path]:
    for spec in registry.specs.values():
        for folder in (root / WORK_FOLDER / spec.name / "shards").glob("*"):
            if folder.name not in (*spec.partitions, "all"):
                yield folder


def _unfinished(registry: Registry, root: Path) -> Iterator[Path]:
    """Work folders of runs that never ended well; a run with the same inputs would go on from one."""
    for stage in registry.specs:
        for folder in (root / WORK_FOLDER / stage).glob("*"):
            if len(folder.name) == _RUN_DIGITS and set(folder.name) <= _DIGITS:
                yield folder


def _outdated_stores(root: Path, kept: frozenset[str]) -> Iterator[Path]:
    cache = root / WORK_FOLDER / "scene_cache"
    return (path for path in cache.glob("*") if path.is_dir() and path.relative_to(root).as_posix() not in kept)


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if not file.is_dir()] if path.is_dir() else [path]


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in _files(path))


def _newest(path: Path) -> float:
    return max(entry.lstat().st_mtime for entry in [path, *_files(path)])
