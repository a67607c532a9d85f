"""The profile of this Dagster code location: RLIP_PROFILE, or `micro`."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.params.execution import ExecutionParams
from rlip_assets.lineage.profiles import DEFAULT_PROFILE, PARAMS_FILE, profile_root, relative_project
from rlip_assets.lineage.registry import build_registry
from rlip_assets.lineage.spec import Registry

PROFILE_VARIABLE = "RLIP_PROFILE"


@dataclass(frozen=True)
class ActiveProfile:
    """A profile's name, root folder and stages, and its execution parameters."""

    name: str
    root: Path
    registry: Registry
    execution: ExecutionParams = field(default_factory=ExecutionParams)


@cache
def active_profile() -> ActiveProfile:
    """Return the profile of this process."""
    name = os.environ.get(PROFILE_VARIABLE, DEFAULT_PROFILE)
    root = profile_root(name)
    params = load_params(root / PARAMS_FILE)
    return ActiveProfile(name, root, build_registry(params, relative_project(root)), params.execution)
