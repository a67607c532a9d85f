"""`rlip gc`: what nothing refers to any more."""

from __future__ import annotations

from typing import Annotated

import typer

from rlip_assets.cli.stages import Profile
from rlip_assets.profiles import DEFAULT_PROFILE, profile_root


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
    profile: Profile = DEFAULT_PROFILE,
) -> None:
    """Remove what no dvc.lock, promotion or MLflow run refers to, a day old at least: cached outputs, leftovers, outdated copies."""
    from itertools import groupby

    from rlip_assets.garbage import find_garbage, remove
    from rlip_assets.registry import load_registry
    from rlip_assets.tracking import input_hashes

    root = profile_root(profile)
    found = find_garbage(load_registry(root), root, input_hashes())
    for kind, entries in groupby(found, key=lambda entry: entry.kind):
        listed = list(entries)
        print(f"{kind}: {len(listed)}, {sum(entry.bytes for entry in listed) / 1e6:.1f} MB")
        for entry in listed:
            print(f"    {entry.bytes / 1e6:10.1f} MB  {entry.path}")
    total = f"{len(found)} entries, {sum(entry.bytes for entry in found) / 1e6:.1f} MB"
    if dry_run:
        print(f"nothing refers to {total}; `rlip gc` removes them")
        return
    remove(found)
    print(f"removed {total}")
