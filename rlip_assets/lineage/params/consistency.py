"""Checks of `params.yaml` against itself: recipes, datasets, starts and weights that must fit together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rlip_assets.lineage.datasets import BENCHMARKS, HUMAN_DATASET, ZERO_SHOT_BENCHMARK

if TYPE_CHECKING:
    from rlip_assets.lineage.params import Params
    from rlip_assets.lineage.params.training import RecipeChoice

KINDS = {"r_tagger": "tagger", "pretrain": "pretrain", "finetune": "finetune"}
"""Stage -> the kind of recipes that it runs."""


def problems(params: Params) -> Iterator[str]:
    """Yield what cannot work in a profile, each with its key and remedy."""
    yield from _labels(params)
    for key, stage, choice in _trainings(params):
        yield from _recipe(params, key, stage, choice)
    for name, prediction in params.predictions.items():
        if prediction.on not in params.sources.names:
            yield f"predictions.{name}: this profile leaves {prediction.on} out; give sources.{prediction.on} a root, or remove it"
    if not params.is_micro_world:
        yield from _shipped_weights(params)
    if params.captions.model and params.external.captioner:
        yield "captions.model and external.captioner both name a captioner; set one of them to null"


def trains_tagger(params: Params) -> bool:
    """Return whether the profile trains an R-Tagger: it labels a dataset with one, and names no checkpoint of it."""
    wanted = labelled_here(params) and params.tagging.source == "r_tagger"
    return bool(wanted) and params.external.r_tagger is None


def labelled_here(params: Params) -> tuple[str, ...]:
    """Return the datasets that are captioned, matched and tagged in the profile."""
    detection = (name for name in params.sources.detection if name not in params.external.labels)
    return (*detection, *own_labelled(params))


def own_labelled(params: Params) -> tuple[str, ...]:
    """Return the benchmarks whose training images receive own labels, as recipes of fine-tunings ask for."""
    recipes = [choice.resolve() for choice in params.training.finetune.values()]
    return tuple(dict.fromkeys(recipe.own_labels for recipe in recipes if recipe.own_labels))


def _trainings(params: Params) -> Iterator[tuple[str, str, RecipeChoice]]:
    """Yield key, stage and choice of every training that the profile runs."""
    training = params.training
    if trains_tagger(params):
        yield "training.r_tagger", "r_tagger", training.r_tagger
    for name, choice in training.pretrain.items():
        yield f"training.pretrain.{name}", "pretrain", choice
    for name, start in training.finetune.items():
        yield f"training.finetune.{name}", "finetune", start


def _recipe(params: Params, key: str, stage: str, choice: RecipeChoice) -> Iterator[str]:
    recipe = choice.resolve()
    if recipe.kind != KINDS[stage]:
        yield (
            f"{key}: {choice.recipe} is a recipe of kind {recipe.kind}, and the stage {stage} runs those of kind {KINDS[stage]}; "
            "`rlip recipes list` shows the kind of each"
        )
        return
    wanted = dict.fromkeys([*recipe.sources, *([recipe.benchmark] if recipe.benchmark else [])])
    for name in wanted:
        if name not in params.sources.names:
            yield (
                f"{key}: {choice.recipe} needs {name}, which this profile leaves out; give sources.{name} a root, take it out of the "
                f"recipe (changes), or remove {key}"
            )
    trained = {
        "r_tagger": (HUMAN_DATASET,),
        "pretrain": (HUMAN_DATASET, ZERO_SHOT_BENCHMARK, *params.sources.detection),
        "finetune": (recipe.benchmark,),
    }[stage]
    for name in recipe.sources:
        if name in params.sources.names and name not in trained:
            yield f"{key}: {stage} has no relations of {name} to train on; take it out of the recipe (changes)"
    if stage == "finetune" and recipe.benchmark not in BENCHMARKS:
        yield f"{key}: fine-tuning needs a recipe with a benchmark, one of {', '.join(BENCHMARKS)}"


def _labels(params: Params) -> Iterator[str]:
    for name in params.external.labels:
        if name not in params.sources.detection:
            known = ", ".join(params.sources.detection) or "there is none"
            yield f"external.labels.{name}: this profile has no such detection dataset ({known}); correct the name or remove it"
    if params.oracle.captions and own_labelled(params):
        yield "oracle.captions knows no truth of benchmarks, which own_labels of a recipe caption; set one of them to false or null"
    if params.tagging.calibration != "none":
        yield from _calibration(params)
    if params.oracle.captions and not params.sources.known_truth:
        yield "oracle.captions needs the truth of the micro world, which this profile does not draw; set it to false"


def _calibration(params: Params) -> Iterator[str]:
    if not trains_tagger(params):
        yield "tagging.calibration needs an R-Tagger that is trained here, since what another was trained on is not known; set it to none"
    elif not params.training.r_tagger.resolve().holdout:
        yield (
            "tagging.calibration needs human triplets that the R-Tagger is not trained on; set holdout in training.r_tagger.changes, "
            "or tagging.calibration to none"
        )


def _shipped_weights(params: Params) -> Iterator[str]:
    """The small shipped weights know the micro world: a profile of real data names its own."""
    external, lacking = params.external, {}
    for key, stage, choice in _trainings(params):
        if stage != "finetune" and not (external.detector or getattr(choice, "detector", None)):
            lacking["external.detector"] = f"the box detector that {key} starts from"
        if stage != "finetune" and not external.text_encoder:
            lacking["external.text_encoder"] = f"the RoBERTa that {key} starts from"
    if labelled_here(params) and not (external.captioner or params.captions.model):
        lacking["external.captioner"] = f"the captioner of {', '.join(labelled_here(params))}"
    if own_labelled(params) and not params.detections.model:
        lacking["detections.model"] = f"the object detection model of {', '.join(own_labelled(params))}"
    for key, what in lacking.items():
        yield f"{key}: null, but a profile of real data has to name {what}: the shipped one knows drawings only"
