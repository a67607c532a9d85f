"""Items that are out of date, by `dvc status`, and results that changed without a cause."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rlip_assets.dvc.lock import DvcLock
from rlip_assets.lineage.spec import Registry
from rlip_assets.storage.errors import BusyError, InputError


def changed_items(registry: Registry, root: Path) -> set[str]:
    """Return the addresses of items whose parameters, version, inputs or outputs differ from `dvc.lock`.

    Raises:
        BusyError: another DVC process uses a path of the lineage.
        InputError: `dvc status` failed.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "status", "--json"]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        problem = " ".join((result.stderr or result.stdout).split())
        if "busy" in problem or "lock" in problem:
            raise BusyError(f"Another DVC process works in {root}; wait for it to end ({problem[:200]})")
        raise InputError(f"`dvc status` failed in {root}: {problem[:500]}")
    status = json.loads(result.stdout.strip().splitlines()[-1]) if result.stdout.strip() else {}
    found = {name.rsplit(":", 1)[-1]: reasons for name, reasons in status.items()}
    return {item.address for item in registry.items() if _differs(registry, found.get(item.address, []))}


def _differs(registry: Registry, reasons: list[Any]) -> bool:
    """Return True if an entry of `dvc status` is a reason to run; a missing input is not, since its writer runs first."""
    for reason in reasons:
        if not isinstance(reason, dict) or set(reason) != {"changed deps"}:
            return True
        if any(state != "deleted" or not registry.writers(path) for path, state in reason["changed deps"].items()):
            return True
    return False


def changed_results(addresses: Iterable[str], before: DvcLock, now: DvcLock) -> list[str]:
    """Return the addresses whose outputs differ between two locks although command, parameters and inputs are the same.

    Float results differ between processors, so this is expected of stages with a network if the lock comes from another machine.
    """
    found = []
    for address in addresses:
        old, new = before.get(address), now.get(address)
        if old is not None and new is not None and old.made_from == new.made_from and old.outs != new.outs:
            found.append(address)
    return found
