"""Benchmarks in their official layouts with a few drawn images, and released files of a small network."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from rlip_assets.datasets.sources.classes import preset_classes
from rlip_assets.lineage.params.world import WorldParams
from rlip_assets.micro_world.shots import shots
from rlip_assets.micro_world.world import interactions
from rlip_assets.micro_world.writers import hico_det, open_images, save_json, save_picture, v_coco
from rlip_model import ModelConfig, build_model, train_label_tokenizer
from rlip_model.checkpoints.official_layout import official_state_dict

WRITERS = {"hico_det": hico_det, "v_coco": v_coco, "open_images": open_images}
WORLD = {"v_coco_trainval": 4, "open_images_train": 4, "open_images_val": 1}
TRAIN = 4
"""Training images of HICO-DET."""


def draw_benchmark(benchmark: str, root: Path, tests: int) -> None:
    """Draw a benchmark with `tests` test images into a folder."""
    if benchmark == "hico_det":  # whose writer plans at least 200 images
        for split, file, count in (("train", "trainval", TRAIN), ("test", "test", tests)):
            classes = {(item.verb, item.object): item for item in interactions()}
            records = []
            for shot in shots("v_coco", "test", count, 5):
                name = f"HICO_{split}2015_{shot.number + 1:08d}.jpg"
                save_picture(root / f"images/{split}2015" / name, shot.picture)
                records.append(hico_det._record(name, shot.picture, classes))
            save_json(root / f"annotations/{file}_hico.json", records)
        return
    params = WorldParams().model_copy(update=WORLD | {f"{benchmark}_test": tests})  # below the bounds of a world
    WRITERS[benchmark].write(root, params, lambda _: None)


def released_config(preset: str = "micro_parseda") -> ModelConfig:
    """A network so small that an image takes milliseconds; released text encoders have heads of width 64."""
    config = ModelConfig.preset(preset).without_dropout()
    return replace(config, text=replace(config.text, heads=2))


def write_released(file: Path, preset: str = "micro_parseda", **arguments: object) -> None:
    """Write an official file of fresh weights with its command line, and the folder of its tokenizer beside it."""
    torch.manual_seed(1)
    command_line = argparse.Namespace(nheads=4, gating_mechanism="VXAc", **arguments)
    torch.save({"model": official_state_dict(build_model(released_config(preset))), "args": command_line}, file)
    words = [text for name in WRITERS for text in preset_classes(name).objects]
    (file.parent / "tokenizer").mkdir(exist_ok=True)
    train_label_tokenizer(words, 300).save_pretrained(file.parent / "tokenizer")
