"""The stages of the active profile as assets."""

import dagster as dg

from dagster_project.profile import active_profile
from dagster_project.stage_assets import stage_asset
from rlip_assets.lineage.versions import stage_version


@dg.definitions
def stages() -> dg.Definitions:
    """Return all assets, and an in-process executor: DVC starts a process for every stage anyway."""
    profile = active_profile()
    settings = {"prefix": profile.name, "buckets_per_run": profile.execution.buckets_per_run}
    assets = [
        stage_asset(profile.registry, profile.root, stage, stage_version(stage), **settings)
        for stage in profile.registry.specs
    ]
    return dg.Definitions(assets=assets, executor=dg.in_process_executor)
