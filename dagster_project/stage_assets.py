"""What all stage assets share: how they are described and how they materialise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg

from dagster_project.checks import check_results, check_specs
from dagster_project.dvc_stage import reproduce
from dagster_project.metadata import LOCK_TAG, describe
from dagster_project.partitions import dependency, partitions_of
from dagster_project.profile import active_profile
from rlip_assets.stage_runner import read_manifest
from rlip_assets.stage_spec import Registry
from rlip_assets.stage_versions import stage_version

FORCE_TAG = "rlip/force"
"""Run tag that makes DVC run the stage although nothing it tracks has changed (a raw dataset has, for instance)."""


def about(stage: str, *parents: str) -> dict[str, Any]:
    """Arguments of `dg.asset` for a stage of the active profile whose items read what `parents` write."""
    profile = active_profile()
    return describe_asset(profile.registry, stage, parents, stage_version(stage), profile.name)


def describe_asset(
    registry: Registry, stage: str, parents: tuple[str, ...], version: int, prefix: str
) -> dict[str, Any]:
    """Arguments of `dg.asset` for a stage of a registry; asset keys are `prefix/stage`. Parents that the stage does not read in this
    profile (the micro world, where all datasets are real) are left out."""
    spec = registry.spec(stage)
    parents = tuple(parent for parent in parents if (parent, stage) in registry.stage_edges)
    return {
        "key": dg.AssetKey([prefix, stage]),
        "partitions_def": partitions_of(registry, stage),
        "deps": [dependency(registry, stage, parent, prefix) for parent in parents],
        "group_name": spec.group,
        "description": spec.description,
        "owners": list(spec.owners),
        "kinds": {*spec.kinds, "dvc"},
        "code_version": str(version),
        "pool": spec.pool,
        "check_specs": check_specs(stage, dg.AssetKey([prefix, stage])),
    }


class DvcStages(dg.ConfigurableResource):  # type: ignore[misc, unused-ignore]
    """Runs the stages of the active profile through DVC."""

    def materialize(self, context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """Run the DVC stage of the asset and partition of `context` and say what it made."""
        profile = active_profile()
        return materialize_item(context, profile.registry, profile.root)


def materialize_item(context: dg.AssetExecutionContext, registry: Registry, root: Path) -> dg.MaterializeResult:
    """Run the item of `registry` that a materialisation asks for, in the profile at `root`."""
    stage = context.asset_key.path[-1]
    item = registry.item(stage, context.partition_key if context.has_partition_key else None)
    entry, ran = reproduce(context, root, item.address, force=context.run.tags.get(FORCE_TAG) == "true")
    if not ran:
        context.log.info(f"{item.address} is up to date in DVC: nothing ran")
    manifest = read_manifest(root, item)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(entry.data_version),
        metadata={"ran": ran, **describe(root, item, entry, manifest)},
        tags={LOCK_TAG: entry.fingerprint},
        check_results=check_results(registry, root, stage, context.asset_key),
    )
