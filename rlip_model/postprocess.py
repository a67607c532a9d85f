"""Network outputs as scored pairs in pixels.

Shape legend: B batch, P pairs, No object labels ("no objects" last), Nv relation labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlip_model.boxes import to_pixels
from rlip_model.model import ModelOutput


@dataclass(frozen=True)
class PairPredictions:
    """Scored pairs of one image.

    sub_boxes, obj_boxes: (P, 4) x0, y0, x1, y1 in pixels of the original image, not clamped; sub_labels, obj_labels:
    (P,) int64 object rows; scores: (P, Nv).
    """

    sub_boxes: Tensor
    obj_boxes: Tensor
    sub_labels: Tensor
    obj_labels: Tensor
    scores: Tensor

    def __len__(self) -> int:
        return len(self.sub_labels)

    def keep(self, rows: Tensor) -> PairPredictions:
        """Return the pairs that `rows` (bool mask or index) selects."""
        return PairPredictions(**{name: value[rows] for name, value in vars(self).items()})


@torch.no_grad()
def hoi_predictions(
    output: ModelOutput, original_sizes: Tensor, *, persons_only: bool = False
) -> list[PairPredictions]:
    """Return pairs in human-object interaction form: subject label 0, score = relation x object probability.

    Args:
        output: predictions; the last layer is used.
        original_sizes: (B, 2) height and width of the original images in pixels.
        persons_only: keep only pairs whose best subject class is class 0 (zero-shot evaluation).
    """
    _, sub_labels = _best_class(output.sub_logits[-1])
    obj_scores, obj_labels = _best_class(output.obj_logits[-1])
    scores = output.relation_logits[-1].sigmoid() * obj_scores[..., None]
    pairs = _by_image(output, original_sizes, torch.zeros_like(sub_labels), obj_labels, scores)
    if persons_only:
        pairs = [pair.keep(labels == 0) for pair, labels in zip(pairs, sub_labels, strict=True)]
    return pairs


@torch.no_grad()
def sgg_predictions(output: ModelOutput, original_sizes: Tensor) -> list[PairPredictions]:
    """Return pairs in scene-graph form: both labels predicted, score = relation x object x subject probability."""
    sub_scores, sub_labels = _best_class(output.sub_logits[-1])
    obj_scores, obj_labels = _best_class(output.obj_logits[-1])
    scores = output.relation_logits[-1].sigmoid() * obj_scores[..., None] * sub_scores[..., None]
    return _by_image(output, original_sizes, sub_labels, obj_labels, scores)


def _best_class(logits: Tensor) -> tuple[Tensor, Tensor]:
    """(B, P, No) -> probability and row of the best class that is not background, (B, P) each."""
    scores, labels = logits.softmax(-1)[..., :-1].max(-1)
    return scores, labels


def _by_image(
    output: ModelOutput, sizes: Tensor, sub_labels: Tensor, obj_labels: Tensor, scores: Tensor
) -> list[PairPredictions]:
    sizes = sizes.to(output.sub_boxes.device)
    sub_boxes, obj_boxes = to_pixels(output.sub_boxes[-1], sizes), to_pixels(output.obj_boxes[-1], sizes)
    columns = (sub_boxes, obj_boxes, sub_labels, obj_labels, scores)
    return [PairPredictions(*(column[index] for column in columns)) for index in range(len(sizes))]
