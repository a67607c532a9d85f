"""Commands of `rlip` that write where their user says, with inputs that work."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from typer.testing import CliRunner

from rlip_assets.cli.application import app
from rlip_assets.datasets.scenes import make_scene, write_scenes
from rlip_assets.evaluation.formats.predictions import ImagePredictions, PredictionWriter
from rlip_assets.storage.errors import RlipError, explain
from rlip_assets.storage.files import write_json
from rlip_model import CheckpointError, ModelConfig, build_model, save_checkpoint, train_label_tokenizer
from rlip_model.checkpoints.importing import DETECTOR_SIGNS
from rlip_model.checkpoints.official_layout import official_state_dict

WORDS = ["person", "horse", "ride", "no objects"]
SCENE = make_scene("9", "coco", "test", "val2017/000000000009.jpg", 64, 48, [(0, 0, 9, 9), (3, 3, 20, 20)], WORDS[:2],
                   [(0, 1, "ride")], [0.75])  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A command line that works, and where it says what to write."""

    words: Callable[[Path, Path], list[str | Path]]
    """(folder of sources, output) to the arguments."""
    inputs: tuple[str, ...]
    """Files and folders that it reads, below the folder of sources."""
    folder: bool
    """Its output is a folder."""


MODEL = ("model", "model/model.safetensors", "model/config.json", "model/metadata.json", "model/tokenizer.json")
SCENES = ("scenes", "scenes/table.json", "scenes/part-00000.parquet")
EVALUATED = ("scores.parquet", *SCENES, "scenes/classes.json")
COMMANDS = {
    "draw": Command(lambda s, o: ["draw", s / "photo.png", s / "relations.json", o], ("photo.png", "relations.json"), False),
    "predict": Command(lambda s, o: ["predict", s / "photo.png", "--model", s / "model", "--output", o], ("photo.png", *MODEL), True),
    "package": Command(lambda s, o: ["package", s / "model", o], MODEL, True),
    "import-detector": Command(lambda s, o: ["import-detector", s / "boxes.pth", o], ("boxes.pth",), True),
    "import-checkpoint": Command(
        lambda s, o: ["import-checkpoint", s / "rlip.pth", o, "--tokenizer", s / "model"], ("rlip.pth", "model/tokenizer.json"), True
    ),
    "merge": Command(lambda s, o: ["merge", s / "model", s / "start", "--output", o], (*MODEL, "start/model.safetensors"), True),
    "labels export": Command(lambda s, o: ["labels", "export", s / "scenes", "--output", o], SCENES, False),
    "labels import": Command(lambda s, o: ["labels", "import", s / "labels.json", "--output", o], ("labels.json", "params.yaml"), True),
    "evaluate per class": Command(lambda s, o: [*evaluation(s), "--per-class", o], EVALUATED, False),
    "evaluate report": Command(lambda s, o: [*evaluation(s), "--report", o], EVALUATED, True),
}  # fmt: skip


def evaluation(sources: Path) -> list[str | Path]:
    return ["evaluate", "open_images", "--predictions", sources / "scores.parquet", "--annotations", sources / "scenes"]


def make_sources(root: Path) -> None:
    """Write what the commands read into the empty folder `root`, which is also a profile."""
    Image.effect_noise((64, 48), 80).save(root / "photo.png")
    write_json(root / "relations.json", {"relations": []})
    torch.manual_seed(0)
    config = ModelConfig.preset("micro_parseda").without_dropout()
    config = replace(config, text=replace(config.text, heads=2))
    model, tokenizer = build_model(config).eval(), train_label_tokenizer(WORDS, 300)
    metadata = {"objects": WORDS[:2], "relations": ["ride"], "image_size": [64, 96]}
    save_checkpoint(root / "model", model, tokenizer, metadata)
    save_checkpoint(root / "start", model, tokenizer, metadata)
    arguments = argparse.Namespace(nheads=4, gating_mechanism="VXAc")
    torch.save({"model": official_state_dict(model), "args": arguments}, root / "rlip.pth")
    torch.save({"model": {key: torch.zeros(2) for key in DETECTOR_SIGNS}}, root / "boxes.pth")
    write_scenes(root / "scenes", [SCENE])
    image = root / "data/raw/coco/val2017/000000000009.jpg"
    image.parent.mkdir(parents=True)
    Image.new("RGB", (64, 48)).save(image)
    (root / "params.yaml").write_text("profile: micro\n")
    labels = {"image_id": 9, "dataset": "coco2017", "data_split": "val2017", "relationships": []}
    labels["objects"] = [{"object_id": 1, "x": 0, "y": 0, "w": 9, "h": 9, "names": "person"}]
    write_json(root / "labels.json", [labels])
    classes = {"dataset": "open_images", "objects": WORDS[:2], "relations": ["ride"], "hois": [], "rare": []}
    write_json(root / "scenes/classes.json", {**classes, "splits": {}, "groups": {}})
    with PredictionWriter(root / "scores.parquet", "open_images", WORDS[:2], ["ride"], {}) as out:
        box, first, second = SCENE.boxes, np.array([0]), np.array([1])
        out.write(ImagePredictions("9", box[:1], box[1:], first, second, np.array([[0.9]], np.float32)))


def run(words: list[str | Path]) -> str | None:
    """Run a command; returns the sentence with which it ends, None for success."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exit_code == 0:
        return None
    error = result.exception
    sentence = str(error) if isinstance(error, RlipError | CheckpointError) else error and explain(error)
    assert sentence, (words, result.output, result.exc_info)
    return sentence
