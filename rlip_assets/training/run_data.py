"""The data of a training run: the batches of its steps, made from the tables of its stage, and its held-out images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rlip_assets.datasets.decontamination import read_listed
from rlip_assets.datasets.image_identity import image_key
from rlip_assets.datasets.scenes import SceneStore, bucket_folders
from rlip_assets.datasets.sources.classes import Classes
from rlip_assets.datasets.sources.roots import image_root
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.datasets import HUMAN_DATASET, HUMAN_EXCLUSIONS, ZERO_SHOT_BENCHMARK
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.storage.errors import ParameterError
from rlip_assets.training.batches import Part, StepBatches
from rlip_assets.training.label_lists import (
    BatchVocabulary,
    FixedVocabulary,
    NameSampler,
    Vocabulary,
    benchmark_labels,
)
from rlip_assets.training.own_labels import OwnLabels
from rlip_assets.training.processes import Processes
from rlip_assets.training.start import model_config
from rlip_assets.training.training_images import ImageSource, TrainingImages, training_images, training_splits
from rlip_assets.training.unseen import Unseen


@dataclass(frozen=True)
class RunData:
    """The training images, the batches of this process (one view per accumulated part), and batches of held-out images."""

    train: TrainingImages
    parts: list[StepBatches]
    held_out: StepBatches

    def steps(self, epochs: float | None) -> int | None:
        """Return a span of epochs in steps, at least one; None stays None."""
        return None if epochs is None else max(1, round(epochs * self.parts[0].steps_per_epoch))


def read_run_data(
    ctx: StageContext, recipe: Recipe, classes: Classes | None, seed: int, processes: Processes, slots: int
) -> RunData:
    """Open the tables of a stage as the data of its training.

    Args:
        classes: of the benchmark that is fine-tuned on; None makes label lists from the batches.
        slots: pairs that the network predicts per image.

    Raises:
        ParameterError: more parts than images in a batch, or a zero-shot split without a benchmark.
    """
    parts = processes.count * recipe.accumulate
    if parts > recipe.total_batch:
        raise ParameterError(
            f"{processes.count} processes with {recipe.accumulate} parts each cannot share a batch of {recipe.total_batch} "
            "images; lower training.processes or accumulate, or raise batch_per_process"
        )
    if recipe.published.part_counts and parts != recipe.processes:
        ctx.log.info(
            f"the recipe's losses are those of {recipe.processes} parts (published.part_counts), this run has {parts}: for its losses "
            f"let training.processes times accumulate be {recipe.processes}"
        )
    unseen = Unseen.of(recipe, classes)
    image_list = ctx.inputs.get("image_list")
    own = _own_labels(ctx, recipe, classes, unseen)
    train, held = training_images(recipe, image_sources(ctx, recipe), unseen, scene_cache(ctx), seed, image_list, own)
    vocabulary = _vocabulary(recipe, classes, train, unseen)
    first = processes.index * recipe.accumulate
    return RunData(
        train,
        [
            StepBatches(train, vocabulary, recipe, slots, seed, unseen, Part(first + index, parts))
            for index in range(recipe.accumulate)
        ],
        StepBatches(held, vocabulary, recipe, slots, seed, unseen, training=False),
    )


def image_sources(ctx: StageContext, recipe: Recipe) -> list[ImageSource]:
    """Return tables and image folder of every source: pseudo labels where the stage has them, the human triplets otherwise.

    Raises:
        ParameterError: the stage has no tables of a source.
    """
    sources = []
    for name in recipe.sources:
        inputs = [f"pseudo_labels/{name}"] * (name != recipe.own_labels)
        inputs += ["benchmark_scenes"] * (name == ZERO_SHOT_BENCHMARK)
        inputs += ["scenes"] * (name == (recipe.benchmark or HUMAN_DATASET))
        folder = next((ctx.inputs[each] for each in inputs if each in ctx.inputs), None)
        if folder is None:
            raise ParameterError(
                f"the recipe trains on {name}, of which {ctx.stage} has no relations; take it out of the recipe's sources"
            )
        excluded = _excluded(ctx) if name == HUMAN_DATASET else frozenset[str]()
        tables = tuple(bucket_folders(folder))
        sources.append(ImageSource(name, tables, image_root(ctx, name), excluded, training_splits(recipe, name)))
    return sources


def _own_labels(ctx: StageContext, recipe: Recipe, classes: Classes | None, unseen: Unseen | None) -> OwnLabels | None:
    if not recipe.own_labels or classes is None:
        return None
    tables = bucket_folders(ctx.inputs[f"pseudo_labels/{recipe.own_labels}"])
    own = OwnLabels(tables, scene_cache(ctx), classes, recipe.relation_threshold, unseen)
    if next(own.rows_alone(set()), None) is None:
        ctx.log.info(
            f"none of the own labels of {len(own.store)} images is an interaction of {classes.dataset} above relation_threshold "
            f"{recipe.relation_threshold}: this training is one without own labels"
        )
    return own


def count_test_images(ctx: StageContext, images: TrainingImages) -> int:
    """Count training images that are, by their ids, test images of a benchmark whose tables the stage reads."""
    tests = set()
    for name in ("scenes", "benchmark_scenes"):
        if name in ctx.inputs:
            store = open_scenes(ctx, ctx.inputs[name])
            scenes = (store[row] for row in store.indices("test").tolist())
            tests |= {image_key(scene.dataset, scene.image_id) for scene in scenes}
    return sum(key in tests for key in images.image_keys())


def open_scenes(ctx: StageContext, tables: Path) -> SceneStore:
    """Open all buckets of a dataset's scene tables."""
    return SceneStore.open(bucket_folders(tables), scene_cache(ctx))


def scene_cache(ctx: StageContext) -> Path:
    """Return the folder of memory-mapped scene tables, which all stages share and which can be deleted at any time."""
    return ctx.shared / "scene_cache"


def _excluded(ctx: StageContext) -> frozenset[str]:
    """Images of the human dataset that occur in the test split of a benchmark, where the profile looks for them."""
    listed = ctx.inputs.get(HUMAN_EXCLUSIONS)
    return frozenset().union(*map(read_listed, bucket_folders(listed))) if listed else frozenset()


def _vocabulary(recipe: Recipe, classes: Classes | None, images: TrainingImages, unseen: Unseen | None) -> Vocabulary:
    if classes is not None:
        labels = benchmark_labels(classes, model_config(recipe).label_texts)
        return (
            FixedVocabulary(labels.without(unseen.objects, unseen.relations), unseen.objects)
            if unseen
            else FixedVocabulary(labels)
        )
    samplers = NameSampler(images.object_counts()), NameSampler(images.relation_counts())
    return BatchVocabulary(*samplers, recipe.label_budget, recipe.synonym_guard)
