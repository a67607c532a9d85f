"""The R-Tagger, the labels it gives, and how good they are."""

import dagster as dg

from dagster_project.profile import active_profile
from dagster_project.stage_assets import DvcStages, about

if "human_decontamination" in active_profile().registry.specs:  # where Visual Genome is real

    @dg.asset(**about("human_decontamination", "scenes"))
    def human_decontamination(context: dg.AssetExecutionContext, dvc: DvcStages) -> dg.MaterializeResult:
        """List the images of Visual Genome that occur in the test split of a benchmark."""
        return dvc.materialize(context)


@dg.asset(**about("r_tagger", "scenes", "human_decontamination"))
def r_tagger(context: dg.AssetExecutionContext, dvc: DvcStages) -> dg.MaterializeResult:
    """Train the R-Tagger on the human triplets of Visual Genome."""
    return dvc.materialize(context)


if "decontamination" in active_profile().registry.specs:  # where a detection dataset is real

    @dg.asset(**about("decontamination", "scenes"))
    def decontamination(context: dg.AssetExecutionContext, dvc: DvcStages) -> dg.MaterializeResult:
        """List the images of a bucket that occur in the test split of a benchmark."""
        return dvc.materialize(context)


@dg.asset(**about("pseudo_labels", "candidates", "scenes", "raw_manifest", "r_tagger", "decontamination"))
def pseudo_labels(context: dg.AssetExecutionContext, dvc: DvcStages) -> dg.MaterializeResult:
    """Give every candidate of a bucket the R-Tagger's confidence."""
    return dvc.materialize(context)


@dg.asset(**about("label_quality", "pseudo_labels", "micro_world", "scenes"))
def label_quality(context: dg.AssetExecutionContext, dvc: DvcStages) -> dg.MaterializeResult:
    """Measure the pseudo labels against the relations that were kept aside."""
    return dvc.materialize(context)
