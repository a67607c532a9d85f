"""The stages of the lineage: one table that feeds the command line, `dvc.yaml` and the Dagster assets.

Read it top to bottom as the lineage: raw data, scene tables, captions, triplets, candidates, pseudo labels, pre-training,
fine-tuning, benchmarks, report. The names on the left of each `inputs` and `outputs` mapping of a stage (`stages/`) are what the stage
function finds in `ctx.inputs` and `ctx.outputs`; the folder of a dataset stands for all buckets inside it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from rlip_assets.lineage.params import Params, load_params
from rlip_assets.lineage.profiles import relative_project
from rlip_assets.lineage.spec import Registry, StageSpec
from rlip_assets.lineage.stages import labelling, raw_data, results, trainings
from rlip_assets.lineage.stages.profile_lineage import ProfileLineage


def build_registry(params: Params, project: str = ".") -> Registry:
    """Return the stages of a profile with these parameters; a stage of which the profile has nothing to do is none of them.

    Args:
        project: path from the profile's root to the project's root, where shipped files lie.
    """
    lineage = ProfileLineage(params, PurePosixPath(project))
    specs = [
        raw_data.micro_world(lineage),
        raw_data.raw_manifest(lineage),
        raw_data.scenes(lineage),
        labelling.detections(lineage),
        labelling.captions(lineage),
        labelling.caption_triplets(lineage),
        labelling.candidates(lineage),
        *raw_data.decontamination(lineage),
        trainings.r_tagger(lineage),
        labelling.calibration(lineage),
        labelling.pseudo_labels(lineage),
        labelling.label_quality(lineage),
        trainings.pretrain(lineage),
        trainings.finetune(lineage),
        results.predict(lineage),
        results.benchmark(lineage),
        results.report(lineage),
    ]
    specs = [spec for spec in specs if spec.items]
    return Registry(specs if params.rehearsal is None else map(_in_rehearsal, specs))


def load_registry(root: Path) -> Registry:
    """Return the stages of the profile whose root folder is `root`."""
    return build_registry(load_params(root / "params.yaml"), relative_project(root))


def _in_rehearsal(spec: StageSpec) -> StageSpec:
    """Return a stage whose items all declare the limits of the rehearsal, so that nothing of it passes for a result."""
    return replace(spec, items=tuple(replace(item, params=(*item.params, "rehearsal")) for item in spec.items))
