"""Files of a profile that nothing refers to any more.

Every `dvc.lock` and `.dvc` file refers to data: in the tree, and in all commits that a git ref names, of all projects that share a cache.
The caller tells what else is kept. An object that is linked into a working tree is in use. Everything younger than a day, or than another
age, is left alone: it may belong to a run that has not ended.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlip_assets.dvc.cache import DIRECTORY, listed_files, objects_folder
from rlip_assets.dvc.lock import LOCK_FILE, parse_lock
from rlip_assets.lineage.environment import git
from rlip_assets.lineage.params.sources import WORLD_FOLDER
from rlip_assets.lineage.spec import Registry, overlaps
from rlip_assets.lineage.stage_run import WORK_FOLDER
from rlip_assets.storage.files import file_clock

YOUNG_SECONDS = 24 * 3600.0
_HASH = re.compile(r"md5: ([0-9a-f]{32}(?:\.dir)?)")
_REFERRING = (f":(top,glob)**/{LOCK_FILE}", ":(top,glob)**/*.dvc")
_REFS_AT_ONCE = 200
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
    registry: Registry,
    root: Path,
    users: Sequence[Path],
    keep: Keep,
    now: float | None = None,
    young: float = YOUNG_SECONDS,
) -> list[Garbage]:
    """Return what may be removed from the profile at `root`, by kind and path.

    Args:
        users: all roots that share the profile's DVC cache, itself included; without any the cache is not looked at.
        keep: what is referred to elsewhere, such as by runs of the tracking store.
        now: seconds since the epoch; by default the current time.
        young: what changed in these last seconds is left alone.

    Raises:
        DataError: a lock file that is damaged or has conflicts, so that it does not tell what it refers to.
        InputError: DVC's configuration cannot be read.
    """
    hashes = keep.hashes.union(*map(named_hashes, users))
    found = {
        "DVC cache": _cache_files(objects_folder(root), hashes) if users else (),
        "output of no stage": _strange_outputs(registry, root, keep.paths | {WORLD_FOLDER}),
        "shards of no partition": _strange_shards(registry, root),
        "unfinished run": _unfinished(registry, root),
        "table for training, outdated": _outdated_stores(root, keep.paths),
    }
    old = (file_clock(root) if now is None else now) - young
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


def named_hashes(root: Path) -> set[str]:
    """Return the hashes that lock files and `.dvc` files name: at `root`, and in the working tree and all refs of its repository.

    Raises:
        DataError: the lock file at `root` is damaged or has conflicts.
    """
    texts = []
    if (root / LOCK_FILE).exists():
        texts.append((root / LOCK_FILE).read_text(errors="replace"))
        parse_lock(texts[0], root / LOCK_FILE)
    texts += (path.read_text(errors="replace") for path in root.glob("*.dvc") if path.is_file())
    pattern = ("grep", "-hoE", _HASH.pattern.replace("?:", ""))
    refs = sorted(set((git(root, "for-each-ref", "--format=%(objectname)") or "").split()))
    texts.append(git(root, *pattern, "--untracked", "--", *_REFERRING) or "")
    for start in range(0, len(refs), _REFS_AT_ONCE):
        texts.append(git(root, *pattern, *refs[start : start + _REFS_AT_ONCE], "--", *_REFERRING) or "")
    return {md5 for text in texts for md5 in _HASH.findall(text)}


def _cache_files(objects: Path, kept: frozenset[str]) -> Iterator[Path]:
    """Objects that are neither kept, alone or within a folder, nor linked into a working tree."""
    files = {path.parent.name + path.name: path for path in objects.glob("??/*")}
    linked = {name for name, path in files.items() if path.stat().st_nlink > 1}
    used = kept | linked
    for name in files:
        if name.endswith(DIRECTORY):
            inside = {str(entry["md5"]) for entry in listed_files(objects, name)}
            if name in kept:
                used |= inside
            elif inside and inside <= linked:
                used |= {name}
    return (path for name, path in files.items() if name not in used)


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
