"""Relational language-image pre-training, one partition a recipe (data mix and fusion)."""

import dagster as dg

from dagster_project.stage_assets import DvcStages, about


@dg.asset(**about("pretrain", "scenes", "pseudo_labels", "raw_manifest", "human_decontamination"))
def pretrain(context: dg.AssetExecutionContext, dvc: DvcStages) -> dg.MaterializeResult:
    """Pre-train ParSeDA by a recipe, then predict HICO-DET's test split without fine-tuning."""
    return dvc.materialize(context)
