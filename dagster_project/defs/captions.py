"""From images to relation candidates: captions, the triplets they speak of, and the boxes these may belong to."""

import dagster as dg

from dagster_project.stage_assets import DvcStages, about


@dg.asset(**about("captions", "scenes", "raw_manifest"))
def captions(context: dg.AssetExecutionContext, dvc: DvcStages) -> dg.MaterializeResult:
    """Caption every image of a bucket several times with BLIP."""
    return dvc.materialize(context)


@dg.asset(**about("caption_triplets", "captions"))
def caption_triplets(context: dg.AssetExecutionContext, dvc: DvcStages) -> dg.MaterializeResult:
    """Parse the captions of a bucket into (subject, relation, object) texts."""
    return dvc.materialize(context)


@dg.asset(**about("candidates", "caption_triplets", "scenes", "raw_manifest"))
def candidates(context: dg.AssetExecutionContext, dvc: DvcStages) -> dg.MaterializeResult:
    """Match the triplets of an image to the classes of its boxes."""
    return dvc.materialize(context)
