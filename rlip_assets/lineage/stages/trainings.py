"""Stages that train: R-Tagger, pre-training, fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable

from rlip_assets.lineage.datasets import HUMAN_DATASET, ZERO_SHOT_BENCHMARK
from rlip_assets.lineage.layout import classes_file, scene_folder
from rlip_assets.lineage.params.consistency import trains_tagger
from rlip_assets.lineage.spec import StageItem, StageSpec
from rlip_assets.lineage.stages.profile_lineage import ProfileLineage
from rlip_assets.lineage.starts import checkpoint_folder, model_folder


def r_tagger(lineage: ProfileLineage) -> StageSpec:
    """Return the stage that trains the R-Tagger; without items where it is imported or labels nothing."""
    inputs = {
        "scenes": scene_folder(HUMAN_DATASET),
        "detector": lineage.detector(lineage.training.r_tagger),
        "text_encoder": lineage.text_encoder,
        **lineage.human_exclusions,
    }
    params = lineage.training.keys("r_tagger", "tagger_checkpoints")
    processes = lineage.training.processes_of(lineage.training.r_tagger)
    outputs = {"checkpoint": model_folder("r_tagger")}
    item = StageItem("r_tagger", None, inputs, outputs, params, processes=processes)
    description = "R-Tagger, trained on Visual Genome: says between which boxes a relation text holds."
    return _training("r_tagger", description, [item] if trains_tagger(lineage.params) else [], "pseudo_labels")


def pretrain(lineage: ProfileLineage) -> StageSpec:
    """Return the stage that pre-trains; it predicts zero-shot where the profile has HICO-DET."""
    human = {"scenes": scene_folder(HUMAN_DATASET)} if HUMAN_DATASET in lineage.sources.names else {}
    judged, benchmark = ZERO_SHOT_BENCHMARK in lineage.sources.names, {}
    if judged:
        benchmark = {
            "benchmark_scenes": scene_folder(ZERO_SHOT_BENCHMARK),
            "benchmark_classes": classes_file(ZERO_SHOT_BENCHMARK),
        }
    items = []
    for name, choice in lineage.training.pretrain.items():
        sources = choice.resolve().sources
        weights = {"detector": lineage.detector(choice), "text_encoder": lineage.text_encoder}
        labels = lineage.labels(d for d in lineage.sources.detection if d in sources)
        inputs = human | weights | benchmark | lineage.human_exclusions | labels
        outputs = {"checkpoint": model_folder("pretrain", name)}
        if judged:
            outputs["predictions"] = f"data/predictions/pretrain-{name}"
        params = lineage.training.keys(f"pretrain.{name}")
        processes = lineage.training.processes_of(choice)
        items.append(StageItem("pretrain", name, inputs, outputs, params, processes=processes))
    words = "ParSeDA pre-trained on human and pseudo-labelled triplets; ends by predicting HICO-DET zero-shot."
    return _training("pretrain", words, items, "pretraining")


def finetune(lineage: ProfileLineage) -> StageSpec:
    """Return the stage that fine-tunes on a benchmark."""
    items = []
    for name, choice in lineage.training.finetune.items():
        recipe = choice.resolve()
        benchmark = str(recipe.benchmark)
        inputs = {
            "checkpoint": checkpoint_folder(lineage.training.start_of(name)),
            "scenes": scene_folder(benchmark),
            "classes": classes_file(benchmark),
        }
        if recipe.image_list:
            inputs["image_list"] = recipe.image_list
        if recipe.own_labels:
            inputs |= lineage.labels([recipe.own_labels])
        outputs = {"checkpoint": model_folder("finetune", name), "predictions": f"data/predictions/finetune-{name}"}
        params = lineage.training.keys(f"finetune.{name}")
        processes = lineage.training.processes_of(choice)
        items.append(StageItem("finetune", name, inputs, outputs, params, processes=processes))
    description = "The pre-trained checkpoint fine-tuned on a benchmark; ends by predicting its test split."
    return _training("finetune", description, items, "finetuning")


def _training(name: str, description: str, items: Iterable[StageItem], group: str) -> StageSpec:
    return StageSpec(
        name=name,
        function=f"rlip_assets.training.stage:{name}_stage",
        description=description,
        items=tuple(items),
        group=group,
        torch=True,
        distributed=True,
        tracked=True,
        pool="gpu",
        kinds=("pytorch", "mlflow"),
    )
