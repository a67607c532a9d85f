"""The shipped box detector: a micro DAB-Deformable-DETR trained on boxes of the COCO and Objects365 classes of the micro world.

As published, the relation network starts from a detector of these two datasets. The images come from a separate stream of the generator
(`annotated_image`), not from any raw dataset of the lineage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rlip_assets.micro_world.captions import annotated_image
from rlip_assets.micro_world.starting_weights.dense_head import DenseHead, TokenTap
from rlip_assets.micro_world.starting_weights.detection_data import (
    DetectionBatch,
    Drawn,
    drawn,
    evaluation_batch,
    training_batch,
)
from rlip_assets.micro_world.starting_weights.detector_quality import average_precision
from rlip_assets.micro_world.starting_weights.fit import Machine, Schedule, fit
from rlip_assets.micro_world.starting_weights.record import TrainingRecord, earlier
from rlip_assets.micro_world.starting_weights.stream import Stream
from rlip_assets.micro_world.vocabularies import category_text
from rlip_assets.micro_world.world import CATEGORIES
from rlip_model import ModelConfig
from rlip_model.checkpoints.detector import load_detector, save_detector
from rlip_model.dab_deformable_detr import DabDeformableDetr, Detections, DetectorCriterion, detections

PRESET = "micro_detector"
VOCABULARY = "objects365"
"""Objects365 names everything that COCO names, and divides finer."""
HELD_OUT_SEED = 1_000_000
"""Of the stream of the images to measure on."""


@dataclass(frozen=True)
class DetectorTraining:
    """Everything that decides the outcome."""

    seed: int = 0
    images: int = 20_000
    """Distinct training images."""
    steps: int = 4000
    batch: int = 8
    whole_from: float = 0.3
    """Share of the training that goes to backbone and pyramid alone, under the dense loss."""
    lr: float = 1.5e-3
    weight_decay: float = 1e-4
    warmup: int = 50
    """Steps of each part over which the learning rate rises from 0."""
    dense_weight: float = 1.0
    """Weight of the dense loss in the second part; falls to 0 over the last fifth."""
    held_out_images: int = 300

    @classmethod
    def further(cls) -> DetectorTraining:
        """Return the settings that train finished weights on: other images, a lower rate, the whole network from the beginning."""
        return cls(seed=2, steps=1200, whole_from=0.0, lr=8e-4)

    def schedule(self) -> Schedule:
        """Return the learning rates; they end at a hundredth."""
        return Schedule(self.lr, self.steps, self.warmup, self.weight_decay, lowest=0.01, parts=(self.whole_from,))


@cache
def class_names() -> list[str]:
    """Names of everything that the detection corpus boxes, in alphabetical order."""
    names = {
        category_text(category, sprite, VOCABULARY)
        for category, entry in CATEGORIES.items()
        for sprite in entry.sprites
    }
    return sorted(name for name in names if name is not None)


def detection_image(number: int, seed: int) -> Drawn:
    """An annotated image of the corpus, labels as indices of `class_names`."""
    return drawn(annotated_image(seed, number, VOCABULARY), class_names())


def make_detector(
    folder: Path,
    machine: Machine | None = None,
    settings: DetectorTraining | None = None,
    *,
    further: bool = False,
) -> None:
    """Train the detector, measure it on held-out images, write it with its record; an existing folder is replaced whole.

    With `further` the weights in the folder are trained on.
    """
    machine = machine or Machine()
    settings = settings or (DetectorTraining.further() if further else DetectorTraining())
    names = class_names()
    record = TrainingRecord("detector", asdict(settings) | machine.shared, machine.name, earlier(folder, further))
    torch.manual_seed(settings.seed)
    model = load_detector(folder)[0] if further else DabDeformableDetr(ModelConfig.preset(PRESET), len(names))
    draw = partial(detection_image, seed=settings.seed)
    with Stream(draw, settings.images, machine.workers, machine.processes.index * settings.images) as training:
        train_detector(model, training, settings, record, machine)
    if not machine.processes.is_first:
        return
    save_detector(folder, model, {"classes": names, "seed": settings.seed}, half=True)
    held_out = [detection_image(number, HELD_OUT_SEED) for number in range(settings.held_out_images)]
    record.write(folder, evaluate_detector(load_detector(folder)[0], held_out, names))


def train_detector(
    model: DabDeformableDetr,
    images: Stream[Drawn],
    settings: DetectorTraining,
    record: TrainingRecord,
    machine: Machine,
) -> None:
    """Train a detector, batch normalisation included; it comes back in evaluation mode on the CPU.

    Backbone and pyramid learn from the dense head directly at first: the cheap part of the forward pass learns most of what is needed.
    """
    dense, criterion = DenseHead(model.config.width, model.num_classes), DetectorCriterion()
    model.train().to(machine.device)
    dense.to(machine.device)
    # With a limit on time the images made so far serve; else all, so that the outcome does not depend on the workers.
    images.wait(settings.batch if machine.seconds else images.count)

    def batch(generator: np.random.Generator) -> DetectionBatch:
        chosen = [images[row] for row in generator.integers(0, len(images), settings.batch).tolist()]
        return training_batch(chosen, generator).moved(machine.move)

    def losses(batch: DetectionBatch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        if progress < settings.whole_from:
            pyramid = model.pyramid(model.backbone(batch.images), batch.mask)
            alone: Tensor = dense(pyramid.tokens, pyramid, batch.targets)
            return alone, {"backbone": alone}
        with TokenTap(model) as tap:
            loss, terms = criterion(model(batch.images, batch.mask), batch.targets)
        dense_loss = dense(tap.tokens, tap.pyramid, batch.targets)
        weight = settings.dense_weight * min(1.0, (1 - progress) / 0.2)
        return loss + weight * dense_loss, {"total": loss, "dense": dense_loss, **terms}

    fit([model, dense], settings.schedule(), batch, losses, record, machine, settings.seed)
    model.eval().to("cpu")


@torch.no_grad()
def evaluate_detector(
    model: DabDeformableDetr, images: Sequence[Drawn], class_names: Sequence[str], batch: int = 16
) -> dict[str, float]:
    """COCO average precision on annotated images, in percent, and the mean number of boxes per image."""
    found: list[Detections] = []
    for first in range(0, len(images), batch):
        chunk = images[first : first + batch]
        prepared = evaluation_batch(chunk)
        sizes = torch.tensor([image.size for image in chunk])
        found += detections(model(prepared.images, prepared.mask), sizes)
    return {
        **average_precision(found, images, class_names),
        "images": len(images),
        "boxes_per_image": round(sum(len(image.labels) for image in images) / len(images), 2),
    }
