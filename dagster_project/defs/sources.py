"""Raw datasets: the micro world that stands in for them, their manifests, and the scene tables read from them."""

import dagster as dg

from dagster_project.stage_assets import DvcStages, about


@dg.asset(**about("micro_world"))
def micro_world(context: dg.AssetExecutionContext, dvc: DvcStages) -> dg.MaterializeResult:
    """Draw the micro world and write it to disk as six raw datasets; its true relations are kept aside."""
    return dvc.materialize(context)


@dg.asset(**about("raw_manifest", "micro_world"))
def raw_manifest(context: dg.AssetExecutionContext, dvc: DvcStages) -> dg.MaterializeResult:
    """List a raw dataset: names, sizes and checksums of its files by bucket, and its classes."""
    return dvc.materialize(context)


@dg.asset(**about("scenes", "raw_manifest"))
def scenes(context: dg.AssetExecutionContext, dvc: DvcStages) -> dg.MaterializeResult:
    """Read one bucket of a raw dataset into a scene table."""
    return dvc.materialize(context)
