"""The lineage as one value: definitions, stages and folder; tests give engines and sensors a small one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import dagster as dg
from dagster import AssetKey, JobDefinition

from dagster_project.profile import active_profile
from rlip_assets.lineage.spec import Registry
from rlip_assets.lineage.versions import stage_version


@dataclass(frozen=True)
class Location:
    """A lineage that can be materialised and synchronised.

    Attributes:
        version_of: declared version of a stage.
        prefix: first part of all asset keys, the profile's name.
    """

    definitions: dg.Definitions
    registry: Registry
    root: Path
    version_of: Callable[[str], int]
    prefix: str

    @cached_property
    def job(self) -> JobDefinition:
        """The job of all assets; a run of it is narrowed to one asset and partition."""
        return self.definitions.resolve_implicit_global_asset_job_def()

    def key(self, stage: str) -> AssetKey:
        """Return the key of a stage's asset."""
        return AssetKey([self.prefix, stage])

    def parents(self, stage: str) -> list[AssetKey]:
        """Return the keys of the assets that a stage's asset depends on, sorted."""
        return sorted(self.key(above) for above, below in self.registry.stage_edges if below == stage)


def active_location() -> Location:
    """Return the lineage of the active profile."""
    from dagster_project.definitions import defs

    profile = active_profile()
    return Location(defs(), profile.registry, profile.root, stage_version, profile.name)
