"""The training stages of the lineage: R-Tagger, pre-training and fine-tuning.

Each initialises a network, trains it by its recipe, writes the checkpoint with its history, and ends with the predictions that a
benchmark stage evaluates: pre-training zero-shot on HICO-DET, fine-tuning on the test split of its benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlip_assets.datasets.sources.classes import read_classes
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.datasets import ZERO_SHOT_BENCHMARK
from rlip_assets.lineage.params.training import RecipeChoice
from rlip_assets.storage.errors import ParameterError
from rlip_assets.training.run import TrainingRun
from rlip_assets.training.start import network_from_checkpoint, network_from_parts


def r_tagger_stage(ctx: StageContext) -> dict[str, Any]:
    """Train the R-Tagger on the human triplets of Visual Genome.

    Inputs: `scenes` (tables of Visual Genome), `detector`, `text_encoder`, and `decontamination/visual_genome` (folder of buckets) where
    images may occur in a test split. Output: `checkpoint`.
    """
    choice = ctx.params.training.r_tagger
    training = TrainingRun(ctx, choice)
    model, tokenizer, start = network_from_parts(
        training.recipe, ctx.inputs["detector"], ctx.inputs["text_encoder"], training.seed
    )
    return training.run(model, tokenizer, start, ctx.outputs["checkpoint"])


def pretrain_stage(ctx: StageContext) -> dict[str, Any]:
    """Pre-train on human triplets and pseudo labels, then predict HICO-DET's test split zero-shot where the profile has that dataset.

    Inputs: `scenes`, `pseudo_labels/DATASET`, `detector`, `text_encoder`, `benchmark_scenes`, `benchmark_classes`, and
    `decontamination/visual_genome` as in `r_tagger_stage`. Outputs: `checkpoint`, `predictions`.
    """
    choice = _choice(ctx.params.training.pretrain, ctx.partition)
    training = TrainingRun(ctx, choice)
    model, tokenizer, start = network_from_parts(
        training.recipe, ctx.inputs["detector"], ctx.inputs["text_encoder"], training.seed
    )
    figures = training.run(model, tokenizer, start, ctx.outputs["checkpoint"])
    if "benchmark_classes" in ctx.inputs:
        classes, zero_shot = (
            read_classes(ctx.inputs["benchmark_classes"]),
            ZERO_SHOT_BENCHMARK not in training.recipe.sources,
        )
        figures |= training.predict(model, tokenizer, classes, ctx.inputs["benchmark_scenes"], zero_shot=zero_shot)
    return figures


def finetune_stage(ctx: StageContext) -> dict[str, Any]:
    """Fine-tune a pre-trained network on a benchmark, then predict its test split.

    Inputs: `checkpoint`, `scenes`, `classes`, and where the recipe has one, `image_list` and `pseudo_labels/DATASET` of the benchmark's own
    images. Outputs: `checkpoint`, `predictions`.
    """
    choice = _choice(ctx.params.training.finetune, ctx.partition)
    classes = read_classes(ctx.inputs["classes"])
    training = TrainingRun(ctx, choice, classes)
    model, tokenizer, start = network_from_checkpoint(training.recipe, ctx.inputs["checkpoint"])
    figures = training.run(model, tokenizer, start, ctx.outputs["checkpoint"])
    return figures | training.predict(model, tokenizer, classes, ctx.inputs["scenes"], zero_shot=False)


def _choice(choices: Mapping[str, RecipeChoice], partition: str | None) -> RecipeChoice:
    if partition is None or partition not in choices:
        raise ParameterError(f"training has no recipe for {partition!r}; params.yaml knows {', '.join(choices)}")
    return choices[partition]
