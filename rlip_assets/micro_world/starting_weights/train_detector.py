"""The shipped box detector: a micro DAB-Deformable-DETR trained on boxes of the COCO and Objects365 classes of the micro world.

As published, the relation network starts from a detector of these two datasets. The images come from a separate stream of the generator
(`detection_corpus`), not from any raw dataset of the lineage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rlip_assets.micro_world.captions import detection_corpus
from rlip_assets.micro_world.starting_weights.dense_head import DenseHead, TokenTap
from rlip_assets.micro_world.starting_weights.detection_data import (
    DetectionBatch,
    Drawn,
    draw,
    evaluation_batch,
    training_batch,
)
from rlip_assets.micro_world.starting_weights.detector_quality import average_precision
from rlip_assets.micro_world.starting_weights.fit import Schedule, fit, shuffled
from rlip_assets.micro_world.starting_weights.record import TrainingRecord
from rlip_assets.micro_world.vocabularies import category_text
from rlip_assets.micro_world.world import CATEGORIES
from rlip_model import ModelConfig
from rlip_model.checkpoints.detector import load_detector, save_detector
from rlip_model.dab_deformable_detr import DabDeformableDetr, Detections, DetectorCriterion, detections

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
    warmup: int = 50
    """Steps of each part over which the learning rate rises from 0."""
    dense_weight: float = 1.0
    """Weight of the dense loss in the second part; falls to 0 over its last fifth."""
    held_out_images: int = 300

    def of(self, steps: int) -> Schedule:
        """Return the learning rates of one part; they end at a hundredth."""
        return Schedule(self.lr, steps, self.warmup, self.weight_decay, lowest=0.01)


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
    _train_backbone(model, dense, training, settings, generator, record)
    _train_whole(model, dense, training, settings, generator, record)
    return model.eval()


def _train_backbone(
    model: DabDeformableDetr,
    dense: DenseHead,
    training: Sequence[Drawn],
    settings: DetectorTraining,
    generator: np.random.Generator,
    record: TrainingRecord,
) -> None:
    """Backbone and pyramid learn from the dense head directly: the cheap part of the forward pass learns most of what is needed."""

    def losses(batch: DetectionBatch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        pyramid = model.pyramid(model.backbone(batch.images), batch.mask)
        loss: Tensor = dense(pyramid.tokens, pyramid, batch.targets)
        return loss, {"backbone": loss}

    batches = _batches(training, settings.backbone_batch, settings.backbone_steps, generator)
    parameters = [*model.backbone.parameters(), *model.pyramid.parameters(), *dense.parameters()]
    fit(parameters, settings.of(settings.backbone_steps), batches, losses, record)


def _train_whole(
    model: DabDeformableDetr,
    dense: DenseHead,
    training: Sequence[Drawn],
    settings: DetectorTraining,
    generator: np.random.Generator,
    record: TrainingRecord,
) -> None:
    criterion = DetectorCriterion()
    with TokenTap(model) as tap:

        def losses(batch: DetectionBatch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
            output = model(batch.images, batch.mask)
            loss, terms = criterion(output, batch.targets)
            dense_loss = dense(tap.tokens, tap.pyramid, batch.targets)
            left = min(1.0, (settings.steps - step) / max(1.0, 0.2 * settings.steps))
            return loss + settings.dense_weight * left * dense_loss, {"total": loss, "dense": dense_loss, **terms}

        batches = _batches(training, settings.batch, settings.steps, generator)
        fit([*model.parameters(), *dense.parameters()], settings.of(settings.steps), batches, losses, record)


def _batches(
    training: Sequence[Drawn], batch: int, steps: int, generator: np.random.Generator
) -> Iterator[DetectionBatch]:
    for rows in shuffled(len(training), batch, steps, generator):
        yield training_batch([training[row] for row in rows], generator)


@torch.no_grad()
def evaluate_detector(
    model: DabDeformableDetr, images: Sequence[Drawn], class_names: Sequence[str], batch: int = 16
) -> dict[str, float]:
    """COCO average precision on annotated images, in percent, and the mean number of boxes per image."""
    found: list[Detections] = []
    for first in range(0, len(images), batch):
        chunk = images[first : first + batch]
        prepared = evaluation_batch(chunk)
        sizes = torch.tensor([drawn.size for drawn in chunk])
        found += detections(model(prepared.images, prepared.mask), sizes)
    return {
        **average_precision(found, images, class_names),
        "images": len(images),
        "boxes_per_image": round(sum(len(d.labels) for d in images) / len(images), 2),
    }
