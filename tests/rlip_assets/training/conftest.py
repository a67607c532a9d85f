"""A few drawn images with scene tables, and networks small enough for a step in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rlip_assets.datasets.scenes import write_scenes
from rlip_assets.lineage.context import NullLog
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.training.batches import Part, StepBatches
from rlip_assets.training.label_lists import BatchVocabulary, NameSampler
from rlip_assets.training.loop import Evaluate, Settings, Trainer
from rlip_assets.training.processes import Processes
from rlip_assets.training.resume import Resume
from rlip_assets.training.retained import RetainedCheckpoints
from rlip_assets.training.training_images import ImageSource, training_images
from rlip_model import LabelTokenizer, Rlip, build_model, train_label_tokenizer
from tests.support.training_toys import OBJECTS, RELATIONS, draw_scene, small_config

torch.set_num_threads(1)


@pytest.fixture
def drawn(tmp_path: Path) -> Callable[..., ImageSource]:
    """Makes a source of drawn images: `drawn(name, number, **options of draw_scene)`."""

    def make(name: str = "drawn", number: int = 12, first: int = 0, **options: object) -> ImageSource:
        root = tmp_path / name / "images"
        scenes = [replace(draw_scene(first + i, root, **options), dataset=name) for i in range(number)]  # type: ignore[arg-type]
        write_scenes(tmp_path / name / "table", scenes)
        return ImageSource(name, (tmp_path / name / "table",), root)

    return make


@pytest.fixture
def small_recipe() -> Recipe:
    """Pre-training at toy size."""
    return Recipe(
        kind="pretrain",
        model="micro_parseda",
        sources={"drawn": 1.0},
        label_budget=8,
        batch_per_process=4,
        steps=6,
        warmup=2,
        lr=1e-3,
        lr_backbone=1e-3,
        lr_text=1e-3,
        lr_batch=4,
        pseudo=True,
        augmentation={
            "short_sides": (48, 56),
            "longest": 96,
            "crop_short_sides": (56, 64),
            "crop_smallest": 40,
            "crop_largest": 60,
            "test_short_side": 48,
        },
    )


@pytest.fixture
def tokenizer() -> LabelTokenizer:
    return train_label_tokenizer([*OBJECTS, *RELATIONS, "no objects", "right of"], 300, max_length=16)


@pytest.fixture
def network() -> Callable[..., Rlip]:
    """Makes a toy network with fixed fresh weights."""

    def make(name: str = "micro_parseda", queries: int = 12, dropout: bool = True) -> Rlip:
        torch.manual_seed(5)
        config = small_config(name, queries)
        return build_model(config if dropout else config.without_dropout())

    return make


@pytest.fixture
def trainer_of(
    drawn: Callable[..., ImageSource],
    small_recipe: Recipe,
    tokenizer: LabelTokenizer,
    network: Callable[..., Rlip],
    tmp_path: Path,
) -> Callable[..., Trainer]:
    """Return a maker of trainers on 16 drawn images; its arguments change the recipe, the network and what is kept."""
    source = drawn(number=16, size=(72, 64))  # images of 0 to 3 triplets

    def make(
        recipe: Recipe = small_recipe,
        resume: Path | None = None,
        log: NullLog | None = None,
        every: int = 3,
        precision: str = "fp32",
        evaluate: Evaluate | None = None,
        retained: RetainedCheckpoints | None = None,
        evaluate_every: int | None = None,
        **options: object,
    ) -> Trainer:
        model = network(**options)
        images, _ = training_images(recipe, [source], None, tmp_path / "cache", 3)
        vocabulary = BatchVocabulary(
            NameSampler(images.object_counts()), NameSampler(images.relation_counts()), recipe.label_budget
        )
        parts = [
            StepBatches(images, vocabulary, recipe, model.config.pairs, 3, part=Part(index, recipe.accumulate))
            for index in range(recipe.accumulate)
        ]
        return Trainer(
            model,
            tokenizer,
            recipe,
            parts,
            Settings(torch.device("cpu"), precision, checkpoint_every=every, evaluate_every=evaluate_every),
            Processes(),
            3,
            log or NullLog(),
            Resume(resume, "d") if resume else None,
            evaluate,
            retained,
        )

    return make
