"""Predictions judged by the published protocols, and the report on all of them."""

import dagster as dg

from dagster_project.stage_assets import DvcStages, about


@dg.asset(**about("benchmark", "pretrain", "finetune", "scenes", "raw_manifest"))
def benchmark(context: dg.AssetExecutionContext, dvc: DvcStages) -> dg.MaterializeResult:
    """Evaluate the predictions of one model on its benchmark."""
    return dvc.materialize(context)


@dg.asset(
    **about("report", "benchmark", "label_quality", "pretrain", "finetune", "scenes", "pseudo_labels", "raw_manifest")
)
def report(context: dg.AssetExecutionContext, dvc: DvcStages) -> dg.MaterializeResult:
    """Set all results side by side."""
    return dvc.materialize(context)
