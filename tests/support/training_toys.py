"""Drawn scenes, and the micro network at toy size; shared by the tests of training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from rlip_assets.datasets.scenes import Scene, make_scene
from rlip_model import ModelConfig

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
