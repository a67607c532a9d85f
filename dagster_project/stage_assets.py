"""Description and materialisation of stage assets."""

from pathlib import Path

import dagster as dg

from dagster_project.checks import check_results, check_specs
from dagster_project.dvc_stage import reproduce
from dagster_project.metadata import LOCK_TAG, describe
from dagster_project.partitions import dependency, partitions_of
from rlip_assets.lineage.runner import read_manifest
from rlip_assets.lineage.spec import Registry
from rlip_assets.storage.files import digest_json

FORCE_TAG = "rlip/force"
"""Run tag that makes DVC run a stage although nothing it tracks has changed; raw datasets are untracked."""


def stage_asset(
    registry: Registry, root: Path, stage: str, version: int, prefix: str, buckets_per_run: int | None = 1
) -> dg.AssetsDefinition:
    """Return a stage of the registry as an asset `prefix/stage` that materialises by running its items in the profile at `root`.

    Args:
        buckets_per_run: partitions in one run of a backfill; None puts all of them into a single run.
    """
    spec, key, many = registry.spec(stage), dg.AssetKey([prefix, stage]), dg.BackfillPolicy
    policy = many.single_run() if buckets_per_run is None else many.multi_run(buckets_per_run)
    parents = [parent for parent in registry.specs if (parent, stage) in registry.stage_edges]

    @dg.asset(
        key=key,
        partitions_def=partitions_of(registry, stage),
        deps=[dependency(registry, stage, parent, prefix) for parent in parents],
        group_name=spec.group,
        description=spec.description,
        owners=list(spec.owners),
        kinds={*spec.kinds, "dvc"},
        code_version=str(version),
        pool=spec.pool,
        check_specs=check_specs(stage, key),
        backfill_policy=policy if spec.partitions else None,
    )
    def asset(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        return materialize_item(context, registry, root)

    return asset


def materialize_item(context: dg.AssetExecutionContext, registry: Registry, root: Path) -> dg.MaterializeResult:
    """Run the item of `registry` that a materialisation asks for, or several in a backfill, in the profile at `root`."""
    stage = context.asset_key.path[-1]
    force = context.run.tags.get(FORCE_TAG) == "true"
    if registry.spec(stage).partitions and not context.has_partition_key:
        return _materialize_several(context, registry, root, force)
    item = registry.item(stage, context.partition_key if context.has_partition_key else None)
    (entry,), skipped = reproduce(context, root, [item.address], force=force)
    ran = skipped == 0
    if not ran:
        context.log.info(f"{item.address} is up to date in DVC, or was restored from its run cache: nothing ran")
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

    Dagster gives all partitions of a run one data version; without `LOCK_TAG`, the synchronisation reports each bucket's own
    right after.
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
