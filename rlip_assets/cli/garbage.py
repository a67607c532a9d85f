"""Clean-up after runs: `rlip gc` removes what nothing refers to any more, `rlip repair` what a kill cut off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlip_assets.cli.options import Profile
from rlip_assets.lineage.profiles import DEFAULT_PROFILE, profile_names, profile_root, project_of
from rlip_assets.tracking.address import require_store

if TYPE_CHECKING:
    from rlip_assets.dvc.garbage import Garbage


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
    hours: Annotated[float, typer.Option(min=0, help="Leave younger things alone: their run may not have ended.")] = 24,
    project: Annotated[
        list[Path] | None, typer.Option(help="Another clone that uses the same DVC cache; once for each.")
    ] = None,
    keep_cache: Annotated[bool, typer.Option("--keep-cache", help="Leave the DVC cache alone.")] = False,
    profile: Profile = DEFAULT_PROFILE,
) -> None:
    """Remove what no dvc.lock, promotion or MLflow run refers to, a day old at least: cached outputs, leftovers, outdated copies."""
    if not keep_cache:
        require_store()
    from itertools import groupby

    from rlip_assets.datasets.scenes.store import current_entries
    from rlip_assets.dvc.cache import cache_users
    from rlip_assets.dvc.garbage import Keep, find_garbage, remove
    from rlip_assets.lineage.registry import load_registry
    from rlip_assets.tracking.promotion import PROMOTIONS_FILE, promoted_hashes
    from rlip_assets.tracking.store import referred_hashes

    root = profile_root(profile)
    users = [] if keep_cache else cache_users(root, map(profile_root, profile_names()), project or ())
    hashes = [*map(promoted_hashes, users), *map(referred_hashes, {project_of(user) for user in users})]
    tables = (path.relative_to(root).as_posix() for path in current_entries(root / "data", root / "work/scene_cache"))
    keep = Keep(frozenset[str]().union(*hashes), frozenset({PROMOTIONS_FILE, *tables}))
    found = find_garbage(load_registry(root), root, users, keep, young=hours * 3600)
    for kind, entries in groupby(found, key=lambda entry: entry.kind):
        listed = list(entries)
        print(f"{kind}: {len(listed)}, {_size(listed)}")
        for entry in listed:
            print(f"    {_size([entry]):>12}  {entry.path}")
    total = f"{len(found)} entries, {_size(found)}"
    if dry_run:
        print(f"nothing refers to {total}; `rlip gc` removes them")
        return
    remove(found)
    print(f"removed {total}")


def _size(entries: Sequence[Garbage]) -> str:
    """Return the total size of some entries, in MB or kB."""
    size = sum(entry.bytes for entry in entries)
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def repair(
    profile: Annotated[str | None, typer.Option(help="Profile; by default the one of the current folder.")] = None,
) -> None:
    """Put right what a killed DVC process left half-written, dvc.lock above all. Dagster and `rlip demo` do it by themselves."""
    from rlip_assets.dvc.repair import repair

    for sentence in repair(Path.cwd() if profile is None else profile_root(profile)) or ["nothing was cut off"]:
        print(sentence)
