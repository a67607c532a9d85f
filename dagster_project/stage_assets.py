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
from rlip_assets.lineage.runner import read_manifest
from rlip_assets.lineage.spec import Registry
from rlip_assets.lineage.versions import stage_version
from rlip_assets.storage.files import digest_json

FORCE_TAG = "rlip/force"
"""Run tag that makes DVC run the stage although nothing it tracks has changed (a raw dataset has, for instance)."""


def about(stage: str, *parents: str) -> dict[str, Any]:
    """Arguments of `dg.asset` for a stage of the active profile whose items read what `parents` write."""
    profile = active_profile()
    version, per_run = stage_version(stage), profile.execution.buckets_per_run
    return describe_asset(profile.registry, stage, parents, version, profile.name, per_run)


def describe_asset(
    registry: Registry,
    stage: str,
    parents: tuple[str, ...],
    version: int,
    prefix: str,
    buckets_per_run: int | None = 1,
) -> dict[str, Any]:
    """Arguments of `dg.asset` for a stage of a registry; asset keys are `prefix/stage`.

    Args:
        parents: those that the stage does not read in this profile (the micro world, where all datasets are real) are left out.
        buckets_per_run: partitions in one run of a backfill; None puts all of them into a single run.
    """
    spec = registry.spec(stage)
    parents = tuple(parent for parent in parents if (parent, stage) in registry.stage_edges)
    many = dg.BackfillPolicy
    policy = many.single_run() if buckets_per_run is None else many.multi_run(buckets_per_run)
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
        "backfill_policy": policy if spec.partitions else None,
    }


class DvcStages(dg.ConfigurableResource):  # type: ignore[misc, unused-ignore]
    """Runs the stages of the active profile through DVC."""

    def materialize(self, context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """Run the DVC stage of the asset and partition of `context` and say what it made."""
        profile = active_profile()
        return materialize_item(context, profile.registry, profile.root)


def materialize_item(context: dg.AssetExecutionContext, registry: Registry, root: Path) -> dg.MaterializeResult:
    """Run the item of `registry` that a materialisation asks for, in the profile at `root`; or several, in a backfill's run."""
    stage = context.asset_key.path[-1]
    force = context.run.tags.get(FORCE_TAG) == "true"
    if registry.spec(stage).partitions and not context.has_partition_key:
        return _materialize_several(context, registry, root, force)
    item = registry.item(stage, context.partition_key if context.has_partition_key else None)
    (entry,), skipped = reproduce(context, root, [item.address], force=force)
    ran = skipped == 0
    if not ran:
        context.log.info(f"{item.address} is up to date in DVC, or was brought back from its run cache: nothing ran")
    manifest = read_manifest(root, item)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(entry.data_version),
        metadata={"ran": ran, **describe(root, item, entry, manifest)},
        tags={LOCK_TAG: entry.fingerprint},
        check_results=check_results(registry, root, stage, context.asset_key),
    )


def _materialize_several(
    context: dg.AssetExecutionContext, registry: Registry, root: Path, force: bool
) -> dg.MaterializeResult:
    """Run several buckets in one DVC process.

    Dagster gives all partitions of a run one data version; without the tag of an entry of `dvc.lock`, the synchronisation reports each
    bucket's own right after.
    """
    stage = context.asset_key.path[-1]
    addresses = [registry.item(stage, key).address for key in context.partition_keys]
    entries, skipped = reproduce(context, root, addresses, force=force)
    context.log.info(f"{len(addresses)} buckets, {skipped} of them up to date in DVC")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest_json([entry.data_version for entry in entries])[:32]),
        metadata={"buckets": len(addresses), "up_to_date": skipped},
        check_results=check_results(registry, root, stage, context.asset_key),
    )
