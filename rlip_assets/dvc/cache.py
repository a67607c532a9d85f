"""DVC's cache: where it lies, which objects it holds, and which projects use it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from rlip_assets.lineage.environment import git
from rlip_assets.storage.errors import DataError, InputError, ParameterError

DIRECTORY = ".dir"
"""Ending of the hash of a folder, whose object lists the folder's files."""


def objects_folder(root: Path) -> Path:
    """Return the folder of DVC's objects for the project at `root`: `cache.dir` of its configuration, else `.dvc/cache`.

    Raises:
        InputError: a configuration file that DVC refuses.
    """
    from dvc.config import Config, ConfigError  # a fifth of a second, for those who ask alone

    try:
        configured = Config(str(root / ".dvc"))["cache"].get("dir")
    except ConfigError as error:
        raise InputError(
            f"{root / '.dvc'} cannot be used: {error}; correct the file, `dvc config --list` checks it"
        ) from None
    return Path(configured or root / ".dvc" / "cache") / "files" / "md5"


def listed_files(objects: Path, md5: str) -> list[dict[str, str]]:
    """Return `md5` and `relpath` of each file of a folder by its hash.

    Raises:
        FileNotFoundError: the cache does not have it.
        DataError: its object is damaged.
    """
    path = objects / md5[:2] / md5[2:]
    try:
        return [{"md5": str(entry["md5"]), "relpath": str(entry["relpath"])} for entry in json.loads(path.read_text())]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); remove it, then `dvc fetch` or run its stage again") from None


def cache_users(root: Path, profiles: Iterable[Path] = (), projects: Iterable[Path] = ()) -> list[Path]:
    """Return the roots that share the DVC cache of `root`, itself included.

    Looked at are `profiles`, the same folders in the other worktrees of their repository, and other `projects` with their profiles.

    Raises:
        InputError: the cache lies outside of all profiles and worktrees, and no project is named: others may use it.
        ParameterError: one of `projects` is not a DVC project.
    """
    objects, projects = objects_folder(root).resolve(), list(projects)
    for project in projects:
        if not (project / ".dvc").is_dir():
            raise ParameterError(f"{project} is not a DVC project; name the folder in which its .dvc lies")
    own = {place.resolve() for profile in (root, *profiles) for place in _worktrees(profile)}
    if not projects and not any(objects.is_relative_to(place) for place in own):
        raise InputError(
            f"{objects.parents[1]} is a DVC cache outside of this project, whose other users cannot be known; name each clone that uses it "
            "with --project, or leave the cache alone with --keep-cache"
        )
    others = {place.resolve() for project in projects for place in (project, *project.glob("profiles/*"))}
    users = (place for place in own | others if (place / ".dvc").is_dir())
    return sorted(place for place in users if objects_folder(place).resolve() == objects)


def _worktrees(root: Path) -> Iterator[Path]:
    """Yield the folder itself, and the same one in every worktree of its repository."""
    yield root
    inside = (git(root, "rev-parse", "--show-prefix") or "").strip()
    for line in (git(root, "worktree", "list", "--porcelain") or "").splitlines():
        if line.startswith("worktree "):
            yield Path(line.removeprefix("worktree ")) / inside
