"""The R-Tagger, the labels it gives, and how good they are."""

import dagster as dg

from dagster_project.stage_assets import DvcStages, about


@dg.asset(**about("r_tagger", "scenes"))
def r_tagger(context: dg.AssetExecutionContext, dvc: DvcStages) -> dg.MaterializeResult:
    """Train the R-Tagger on the human triplets of Visual Genome."""
    return dvc.materialize(context)


@dg.asset(**about("pseudo_labels", "candidates", "scenes", "raw_manifest", "r_tagger"))
def pseudo_labels(context: dg.AssetExecutionContext, dvc: DvcStages) -> dg.MaterializeResult:
    """Give every candidate of a bucket the R-Tagger's confidence."""
    return dvc.materialize(context)


@dg.asset(**about("label_quality", "pseudo_labels", "micro_world"))
def label_quality(context: dg.AssetExecutionContext, dvc: DvcStages) -> dg.MaterializeResult:
    """Measure the pseudo labels against the relations that were kept aside."""
    return dvc.materialize(context)
