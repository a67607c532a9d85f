"""Fine-tuning on the benchmarks, one partition a recipe."""

import dagster as dg

from dagster_project.stage_assets import DvcStages, about


@dg.asset(**about("finetune", "pretrain", "scenes", "raw_manifest"))
def finetune(context: dg.AssetExecutionContext, dvc: DvcStages) -> dg.MaterializeResult:
    """Fine-tune the pre-trained checkpoint by a recipe, then predict the benchmark's test split."""
    return dvc.materialize(context)
