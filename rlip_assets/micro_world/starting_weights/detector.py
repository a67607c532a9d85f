"""The shipped box detector: a micro DAB-Deformable-DETR trained on boxes of the COCO and Objects365 classes of the micro world.

As published, the relation network starts from a detector of these two datasets. The images come from a stream of the generator of its own
(`detection_corpus`), not from any raw dataset of the lineage.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rlip_assets.micro_world.captions import category_text, detection_corpus
from rlip_assets.micro_world.starting_weights import average_precision as ap
from rlip_assets.micro_world.starting_weights.dense_head import DenseHead, TokenTap
from rlip_assets.micro_world.starting_weights.detection_data import (
    DetectionBatch,
    Drawn,
    draw,
    evaluation_batch,
    training_batch,
)
from rlip_assets.micro_world.starting_weights.record import TrainingRecord
from rlip_assets.micro_world.world import CATEGORIES
from rlip_model import ModelConfig
from rlip_model.checkpoints.detector import load_detector, save_detector
from rlip_model.dab_deformable_detr import DabDeformableDetr, DetectorCriterion, detections

PRESET = "micro_detector"
VOCABULARY = "objects365"
"""Objects365 names everything that COCO names, and divides finer."""
HELD_OUT_SEED = 1_000_000
"""Added to the seed of the training stream."""


@dataclass(frozen=True)
class DetectorTraining:
    """Everything that decides the outcome."""

    seed: int = 0
    backbone_steps: int = 1000
    """First part: backbone and pyramid alone, under the dense loss."""
    steps: int = 2400
    """Second part: the whole network."""
    backbone_batch: int = 16
    batch: int = 8
    images: int = 8000
    """Distinct training images."""
    lr: float = 1.5e-3
    weight_decay: float = 1e-4
    clip: float = 1.0
    warmup: int = 50
    """Steps of each part over which the learning rate rises from 0."""
    dense_weight: float = 1.0
    """Weight of the dense loss in the second part; falls to 0 over its last fifth."""
    held_out_images: int = 300


def class_names() -> list[str]:
    """Names of everything that the detection corpus boxes, in alphabetical order."""
    names = {
        category_text(category, sprite, VOCABULARY)
        for category, entry in CATEGORIES.items()
        for sprite in entry.sprites
    }
    return sorted(name for name in names if name is not None)


def detection_images(seed: int, count: int) -> list[Drawn]:
    """`count` annotated images of the corpus, labels as indices of `class_names`."""
    return draw(detection_corpus(seed, count, VOCABULARY), class_names())


def make_detector(folder: Path, settings: DetectorTraining | None = None) -> None:
    """Train the detector, measure it on held-out images and write the weights with their record; a folder is replaced whole."""
    settings = settings or DetectorTraining()
    torch.set_num_threads(1)
    names = class_names()
    record = TrainingRecord("detector", asdict(settings), settings.backbone_steps + settings.steps)
    model = train_detector(detection_images(settings.seed, settings.images), len(names), settings, record)
    save_detector(folder, model, {"classes": names, "seed": settings.seed}, half=True)
    held_out = detection_images(settings.seed + HELD_OUT_SEED, settings.held_out_images)
    record.write(folder, evaluate_detector(load_detector(folder)[0], held_out, names))


def train_detector(
    training: Sequence[Drawn], num_classes: int, settings: DetectorTraining, record: TrainingRecord
) -> DabDeformableDetr:
    """Train from scratch, batch normalisation included; the network comes back in evaluation mode."""
    torch.manual_seed(settings.seed)
    generator = np.random.default_rng(settings.seed)
    model = DabDeformableDetr(ModelConfig.preset(PRESET), num_classes).train()
    dense = DenseHead(model.config.width, num_classes)
    _train_backbone(
        model, dense, _batches(training, settings.backbone_batch, settings.backbone_steps, generator), settings, record
    )
    _train_whole(model, dense, _batches(training, settings.batch, settings.steps, generator), settings, record)
    return model.eval()


def _train_backbone(
    model: DabDeformableDetr,
    dense: DenseHead,
    batches: Iterator[DetectionBatch],
    settings: DetectorTraining,
    record: TrainingRecord,
) -> None:
    """Backbone and pyramid learn from the dense head directly: the cheap part of the forward pass learns most of what is needed."""
    stepper = _Stepper([*model.backbone.parameters(), *model.pyramid.parameters(), *dense.parameters()], settings)
    for step, batch in enumerate(batches, start=1):
        pyramid = model.pyramid(model.backbone(batch.images), batch.mask)
        loss = dense(pyramid.tokens, pyramid, batch.targets)
        stepper.step(loss, step, settings.backbone_steps)
        record.step(step, {"backbone": float(loss.detach())})


def _train_whole(
    model: DabDeformableDetr,
    dense: DenseHead,
    batches: Iterator[DetectionBatch],
    settings: DetectorTraining,
    record: TrainingRecord,
) -> None:
    criterion = DetectorCriterion()
    stepper = _Stepper([*model.parameters(), *dense.parameters()], settings)
    with TokenTap(model) as tap:
        for step, batch in enumerate(batches, start=1):
            output = model(batch.images, batch.mask)
            loss, terms = criterion(output, batch.targets)
            dense_loss = dense(tap.tokens, tap.pyramid, batch.targets)
            left = min(1.0, (settings.steps - step) / max(1.0, 0.2 * settings.steps))
            stepper.step(loss + settings.dense_weight * left * dense_loss, step, settings.steps)
            values = {"total": loss, "dense": dense_loss, **terms}
            record.step(settings.backbone_steps + step, {name: float(value.detach()) for name, value in values.items()})


class _Stepper:
    """AdamW with clipped gradients; linear warm-up, then half a cosine down to a hundredth."""

    def __init__(self, parameters: list[nn.Parameter], settings: DetectorTraining) -> None:
        self._parameters, self._settings = parameters, settings
        self._optimiser = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)

    def step(self, loss: Tensor, number: int, of: int) -> None:
        """One step (`number` from 1 to `of`)."""
        settings = self._settings
        done = max(0, number - settings.warmup) / max(1, of - settings.warmup)
        share = min(1.0, number / settings.warmup) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in self._optimiser.param_groups:
            group["lr"] = settings.lr * share
        self._optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, settings.clip)
        self._optimiser.step()


def _batches(
    training: Sequence[Drawn], batch: int, steps: int, generator: np.random.Generator
) -> Iterator[DetectionBatch]:
    """Full batches in a new order each epoch."""
    order: list[int] = []
    for _ in range(steps):
        if len(order) < batch:
            order = generator.permutation(len(training)).tolist()
        chosen, order = order[:batch], order[batch:]
        yield training_batch([training[index] for index in chosen], generator)


@torch.no_grad()
def evaluate_detector(
    model: DabDeformableDetr, images: Sequence[Drawn], class_names: Sequence[str], batch: int = 16
) -> dict[str, float]:
    """COCO average precision on annotated images, in percent, and the mean number of boxes an image."""
    found: list[ap.Detections] = []
    for first in range(0, len(images), batch):
        chunk = images[first : first + batch]
        prepared = evaluation_batch(chunk)
        sizes = torch.tensor([drawn.size for drawn in chunk])
        for one in detections(model(prepared.images, prepared.mask), sizes):
            found.append(ap.Detections(one.boxes.numpy(), one.labels.numpy(), one.scores.numpy()))
    figures = ap.average_precision(found, [ap.TrueBoxes(drawn.boxes, drawn.labels) for drawn in images], class_names)
    return {
        **figures,
        "images": len(images),
        "boxes_per_image": round(sum(len(d.labels) for d in images) / len(images), 2),
    }
