"""A few drawn images with scene tables, and networks small enough for a step in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from rlip_assets.scenes import Scene, make_scene, write_scenes
from rlip_assets.training.recipes import Recipe
from rlip_assets.training.sources import ImageSource
from rlip_model import LabelTokenizer, ModelConfig, Rlip, build_model, train_label_tokenizer

torch.set_num_threads(1)

OBJECTS = ("person", "cup", "dog", "kite")
RELATIONS = ("hold", "left of", "chase", "stand")
COLOURS = ("red", "green", "blue", "orange")


def draw_scene(
    number: int, root: Path, triplets: int | None = None, pseudo: bool = False, size: tuple[int, int] | None = None
) -> Scene:
    """A scene of four coloured boxes and up to three triplets."""
    generator = np.random.default_rng([7, number])
    width, height = int(generator.integers(60, 90)), int(generator.integers(50, 80))
    width, height = size or (width, height)
    image = Image.new("RGB", (width, height), "white")
    boxes, labels = [], []
    for slot in range(4):
        x, y = generator.integers(0, width - 20), generator.integers(0, height - 20)
        boxes.append((x, y, x + generator.integers(8, 20), y + generator.integers(8, 20)))
        labels.append(OBJECTS[(slot + number) % 4 if slot else 0])
        ImageDraw.Draw(image).rectangle([int(v) for v in boxes[-1]], fill=COLOURS[OBJECTS.index(labels[-1])])
    name = f"{number:04d}.png"
    root.mkdir(parents=True, exist_ok=True)
    image.save(root / name)
    count = number % 4 if triplets is None else triplets
    chosen = [(0, 1 + k % 3, RELATIONS[(number + k) % 3]) for k in range(count)]
    confidence = [0.1 + 0.2 * k for k in range(count)] if pseudo else None
    return make_scene(f"i{number}", "drawn", "train", name, width, height, boxes, labels, chosen, confidence)


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
        augmentation={  # type: ignore[arg-type]
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


def small_config(name: str = "micro_parseda", queries: int = 12) -> ModelConfig:
    """The micro network, thinner."""
    config = ModelConfig.preset(name)
    text = replace(config.text, vocabulary=320, width=32, layers=1, heads=2, feed_forward=32, positions=20)
    backbone = replace(config.backbone, stem=8, widths=(8, 8, 16, 16))
    return replace(
        config,
        text=text,
        backbone=backbone,
        queries=queries,
        width=32,
        heads=2,
        feed_forward=32,
        encoder_layers=3,
        decoder_layers=2,
        fusion_width=32,
        fusion_heads=2,
    )


@pytest.fixture
def network() -> Callable[..., Rlip]:
    """Makes a toy network with fixed fresh weights."""

    def make(name: str = "micro_parseda", queries: int = 12, dropout: bool = True) -> Rlip:
        torch.manual_seed(5)
        config = small_config(name, queries)
        return build_model(config if dropout else config.without_dropout())

    return make
