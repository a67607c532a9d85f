"""Results of one profile that another takes over instead of making them again, where both share a DVC cache.

DVC's cache of runs does not reach from the project's root into a profile's folder: what is `rlip_assets/...` there is
`../../rlip_assets/...` here. So the entries of `dvc.lock` are copied, and `dvc repro` checks out their results.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rlip_assets.dvc.cache import objects_folder
from rlip_assets.dvc.lock import LOCK_FILE, REPOSITORY_LOCK, read_stages
from rlip_assets.dvc.repair import holding
from rlip_assets.lineage.profiles import PARAMS_FILE, PROJECT_ROOT, relative_project
from rlip_assets.lineage.spec import Registry, StageItem
from rlip_assets.storage.files import write_text


def inherit_results(base: Path, root: Path, registry: Registry, project: Path = PROJECT_ROOT) -> list[str]:
    """Copy into the `dvc.lock` at `root` what the profile at `base` has made; return the addresses.

    Left out are items that are none of `registry`, results of other parameters than those at `root`, which may have made its own,
    and results that the cache of `root` does not hold: a committed lock may speak of those. DVC compares the inputs afterwards.

    Raises:
        DataError: one of the two has a `dvc.lock` that is none.
    """
    up, objects = relative_project(root, project), objects_folder(root)
    entries, own = read_stages(base), read_stages(root)
    params = yaml.safe_load((root / PARAMS_FILE).read_text(encoding="utf-8"))
    found = {
        item.address: _moved(entries[item.address], item, up)
        for item in registry.items()
        if item.address in entries and _asked(entries[item.address], params) and _cached(entries[item.address], objects)
    }
    stages = {**own, **found}
    if stages != own:
        with holding(root / REPOSITORY_LOCK) as alone:
            if not alone and (root / REPOSITORY_LOCK).exists():
                return []  # DVC is working here, and what it knows is enough to go on
            write_text(root / LOCK_FILE, yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False))
    return list(found)


def _asked(entry: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """Return whether an entry has the parameters of `params`, which it names by dotted keys."""
    own = entry.get("params", {}).get(PARAMS_FILE, {})
    return all(_value(params, key) == value for key, value in own.items())


def _value(params: Any, key: str) -> Any:
    for name in key.split("."):
        params = params.get(name) if isinstance(params, dict) else None
    return params


def _cached(entry: Mapping[str, Any], objects: Path) -> bool:
    """Return whether the cache holds all outputs of an entry; of a folder, the list of its files."""
    hashes = [str(out.get("md5", "")) for out in entry.get("outs", [])]
    return all(md5 and (objects / md5[:2] / md5[2:]).exists() for md5 in hashes)


def _moved(entry: Mapping[str, Any], item: StageItem, up: str) -> dict[str, Any]:
    """Return an entry with the paths that the item has in its profile; `up` leads from there to the project's root."""
    own = set(item.inputs.values())
    deps = [
        dep if dep["path"] in own else {**dep, "path": f"{up}/{dep['path'].removeprefix(f'{up}/')}"}
        for dep in entry.get("deps", [])
    ]
    params = {
        file if file == PARAMS_FILE else f"{up}/{file.removeprefix(f'{up}/')}": values
        for file, values in entry.get("params", {}).items()
    }
    return {**entry, **({"deps": deps} if deps else {}), **({"params": params} if params else {})}
