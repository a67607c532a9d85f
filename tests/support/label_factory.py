"""A bucket of drawn images, a captioner and a tagger with random weights: enough to run every stage of the factory in a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from rlip_assets.datasets.scenes import Scene, make_scene, write_scenes
from rlip_assets.datasets.sources.manifests import Manifest, ManifestImage, write_manifest
from rlip_assets.labelling.captions.captioner import Captioner
from rlip_assets.lineage.context import NullLog, StageContext
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.params.labels import CaptionParams
from rlip_assets.micro_world.starting_weights.train_captioner import (
    CaptionerSize,
    build_micro_captioner,
    save_captioner,
    train_tokenizer,
)
from rlip_assets.storage.files import sha256_file, write_json
from rlip_model import ModelConfig, build_model, save_checkpoint, train_label_tokenizer

torch.set_num_threads(1)

OBJECTS = ("person", "dog", "bench")
SENTENCES = [
    "a man is riding a dog",
    "a dog is sitting on a bench next to a woman",
    "a woman holds a dog",
    "the dog on a bench",
]
SIZE = CaptionerSize(
    image=32, patch=16, vision_width=32, vision_layers=1, text_width=32, text_layers=1, heads=2, vocabulary=120
)


class Log(NullLog):
    """Remembers what was reported."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.pictures: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)

    def picture(self, name: str, image: Image.Image) -> None:
        self.pictures.append(name)


def draw_bucket(root: Path, number: int, bad: Sequence[int] = ()) -> list[Scene]:
    """`number` scenes of three boxes each with their images under `root`; images in `bad` are damaged files."""
    scenes = []
    root.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        width, height = 40 + i % 5, 36
        boxes = [(2, 3, 14, 30), (16 + i % 7, 8, 30, 28), (8, 20, 36, 34)]
        image = Image.new("RGB", (width, height), (200, 30 * i % 255, 90))
        for box, colour in zip(boxes, ("red", "green", "blue"), strict=True):
            ImageDraw.Draw(image).rectangle(box, fill=colour)
        name = f"{i:03d}.png"
        if i in bad:
            (root / name).write_bytes(b"no image")
        else:
            image.save(root / name)
        scenes.append(make_scene(str(i), "coco", "train", name, width, height, boxes, OBJECTS))
    return scenes


def scenery(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A drawn picture like no other."""
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", size, tuple(rng.integers(0, 256, 3).tolist()))
    draw = ImageDraw.Draw(picture)
    for _ in range(25):
        x, y = int(rng.integers(0, size[0])), int(rng.integers(0, size[1]))
        w, h = int(rng.integers(10, size[0] // 2)), int(rng.integers(10, size[1] // 2))
        draw.ellipse((x - w, y - h, x + w, y + h), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return picture


@cache
def _captioner_folder(base: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(SENTENCES, SIZE.vocabulary)
    model = build_micro_captioner(tokenizer, SIZE)
    torch.nn.init.normal_(model.text_decoder.cls.predictions.bias)
    for parameter in model.vision_model.parameters():
        parameter.data *= 3
    save_captioner(model.eval(), tokenizer, SIZE, base / "captioner")
    return base / "captioner"


def captioner_folder(base: Path) -> Path:
    """A BLIP captioner with random weights, in the layout of the published ones."""
    return _captioner_folder(base)


def open_captioner(base: Path, **params: object) -> Captioner:
    """That captioner with some parameters changed."""
    return Captioner.open(captioner_folder(base), CaptionParams.model_validate({"max_tokens": 12, **params}))


def tagger_folder(folder: Path, pairs: int = 4) -> Path:
    """An R-Tagger with random weights."""
    torch.manual_seed(1)
    tokenizer = train_label_tokenizer([*OBJECTS, "ride", "sit on", "hold"], 300)
    preset = ModelConfig.preset("micro_tagger")
    text = replace(preset.text, vocabulary=tokenizer.vocabulary, width=32, layers=1, feed_forward=32, positions=66)
    config = replace(preset, text=text, width=32, feed_forward=32, fusion_width=32, queries=2 * pairs).without_dropout()
    model = build_model(config)
    torch.nn.init.normal_(model.heads.projection.weight, std=1.5)
    # swap_sides: a field that recipes had once, as checkpoints made then still say.
    metadata = {"recipe": {"augmentation": {"test_short_side": 64, "longest": 96, "swap_sides": True}}}
    save_checkpoint(folder, model, tokenizer, metadata)
    return folder


def make_params(root: Path, **sections: Mapping[str, object]) -> Params:
    """Parameters with COCO's raw root at `root`, one thread of one processor, and changes of some sections."""
    return Params.model_validate({"sources": {"coco": {"root": str(root)}}, "training": {"device": "cpu"}, **sections})


def context(
    base: Path, stage: str, params: Params, inputs: Mapping[str, Path], output: str, log: NullLog | None = None
) -> StageContext:
    """A context of bucket 0 of COCO; the output folder is new, the work folder is found again."""
    number = len(list(base.glob(f"{stage}-*")))
    folder = base / f"{stage}-{number}"
    folder.mkdir(parents=True)
    work = base / "work" / stage / f"digest-{number}"
    work.mkdir(parents=True)
    return StageContext(stage, "coco-0", params, inputs, {output: folder}, work, log or NullLog())


def write_bucket(base: Path, scenes: Sequence[Scene]) -> Path:
    """The scene table of a bucket."""
    write_scenes(base / "scenes", scenes)
    return base / "scenes"


def write_raw_manifest(base: Path, raw: Path, scenes: Sequence[Scene]) -> Path:
    """The raw manifest of a bucket: the images as they lie under `raw` now."""
    images = []
    for scene in scenes:
        file = raw / scene.file_name
        size, digest = (file.stat().st_size, sha256_file(file)) if file.exists() else (None, None)
        images.append(ManifestImage(scene.image_id, scene.split, scene.file_name, size, digest, "0"))
    write_manifest(base / "bucket-0.json", Manifest("coco", 0, 1, tuple(images), ()))
    return base / "bucket-0.json"


def write_classes(base: Path) -> Path:
    """The classes of the drawn dataset."""
    write_json(base / "classes.json", {"dataset": "coco", "objects": list(OBJECTS)})
    return base / "classes.json"


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
