"""Targets and their assignment to predicted pairs (bipartite matching as in DETR and RLIPv1).

Shape legend: D decoder layers, B batch, P pairs, n targets of one image, N targets of the batch, M matched targets,
No object labels ("no objects" last), Nv relation labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from rlip_model.boxes import generalized_iou
from rlip_model.model import ModelOutput


@dataclass(frozen=True)
class Targets:
    """Triplets of one image.

    sub_labels, obj_labels: (n,) int64 object rows; relations: (n, Nv) float multi-hot; sub_boxes, obj_boxes: (n, 4)
    centre and size, fractions of the unpadded image. An object box of zeros says: there is no object (V-COCO).
    """

    sub_labels: Tensor
    obj_labels: Tensor
    relations: Tensor
    sub_boxes: Tensor
    obj_boxes: Tensor

    def __len__(self) -> int:
        return len(self.sub_labels)

    def to(self, device: torch.device | str) -> Targets:
        return Targets(**{name: value.to(device) for name, value in vars(self).items()})


def concatenate(targets: Sequence[Targets]) -> Targets:
    """Return all triplets of a batch as one."""
    parts = {name: torch.cat([vars(target)[name] for target in targets]) for name in vars(targets[0])}
    return Targets(**parts)


@dataclass(frozen=True)
class Matches:
    """Index tensors (D, M): `output[layer, image, pair]` belongs to row `target` of the concatenated targets."""

    layer: Tensor
    image: Tensor
    pair: Tensor
    target: Tensor

    def take(self, values: Tensor) -> Tensor:
        """Return the matched rows (D, M, ...) of values (D, B, P, ...)."""
        return values[self.layer, self.image, self.pair]


@dataclass(frozen=True)
class MatchCost:
    """Weights of the four parts of the cost."""

    classes: float = 1.0
    relations: float = 1.0
    l1: float = 2.5
    giou: float = 1.0
    subject_class: bool = True


@torch.no_grad()
def pair_costs(output: ModelOutput, targets: Sequence[Targets], cost: MatchCost) -> list[Tensor]:
    """Return the cost of giving target t of an image to pair p: one (D, P, n) tensor per image."""
    # Images are padded to the same number of targets, so that all layers and images take one pass.
    most = max(len(target) for target in targets)
    padded = {
        name: torch.stack([_pad_rows(vars(target)[name], most) for target in targets]) for name in vars(targets[0])
    }
    batch = Targets(**padded)
    total = cost.classes * _class_cost(output.obj_logits, batch.obj_labels)
    if cost.subject_class:
        total = total + cost.classes * _class_cost(output.sub_logits, batch.sub_labels)
    total = total + cost.relations * _relation_cost(output.relation_logits, batch.relations)
    exists = has_object(batch.obj_boxes)[:, None]
    sub, obj = output.sub_boxes[..., None, :], output.obj_boxes[..., None, :]
    sub_target, obj_target = batch.sub_boxes[:, None], batch.obj_boxes[:, None]
    sub_l1 = (sub - sub_target).abs().sum(-1)
    obj_l1 = (obj - obj_target).abs().sum(-1) * exists
    total = total + cost.l1 * torch.maximum(sub_l1, obj_l1)
    sub_giou = generalized_iou(sub, sub_target)
    # Published: an absent object keeps its term against the empty box at the origin, plus the subject's.
    obj_giou = generalized_iou(obj, obj_target) + torch.where(exists, 0.0, sub_giou)
    total = total - cost.giou * torch.minimum(sub_giou, obj_giou)
    return [total[:, index, :, : len(target)] for index, target in enumerate(targets)]


def has_object(obj_boxes: Tensor) -> Tensor:
    """Return (...) bool, False for an all-zero box (..., 4)."""
    return (obj_boxes != 0).any(-1)


def _pad_rows(values: Tensor, rows: int) -> Tensor:
    return torch.cat([values, values.new_zeros(rows - len(values), *values.shape[1:])])


def _class_cost(logits: Tensor, labels: Tensor) -> Tensor:
    """(D, B, P, No), (B, n) -> (D, B, P, n)."""
    index = labels[None, :, None].expand(*logits.shape[:3], -1)
    return -logits.softmax(-1).gather(-1, index)


def _relation_cost(logits: Tensor, relations: Tensor) -> Tensor:
    """(D, B, P, Nv), (B, n, Nv) -> (D, B, P, n): mean agreement on the given and on the other relations."""
    probability = logits.sigmoid()
    given = relations / (relations.sum(-1, keepdim=True) + 1e-4)
    other = (1 - relations) / ((1 - relations).sum(-1, keepdim=True) + 1e-4)
    return -(probability @ given.transpose(-1, -2) + (1 - probability) @ other.transpose(-1, -2)) / 2


def match_hungarian(output: ModelOutput, targets: Sequence[Targets], cost: MatchCost) -> Matches:
    """Return the best assignment of each image and layer; with more targets than pairs, of the cheapest P of them.

    Raises ValueError when a prediction is not finite.
    """
    costs = pair_costs(output, targets, cost) if any(len(target) for target in targets) else []
    return assign(costs, output.sub_logits)


def assign(costs: Sequence[Tensor], output: Tensor) -> Matches:
    """Return the cheapest assignment by costs, one (D, P, n) tensor per image; `output` is any one of the predictions (D, ...)."""
    layers, offset = len(output), 0
    rows: list[list[tuple[int, int, int]]] = [[] for _ in range(layers)]
    for image, table in enumerate(costs):
        table = table.cpu()
        if not bool(torch.isfinite(table).all()):
            raise ValueError(f"image {image} of the batch has predictions that are not finite: training has diverged")
        for layer in range(layers):
            pair, target = linear_sum_assignment(table[layer].numpy())
            rows[layer].extend((image, int(p), offset + int(t)) for p, t in zip(pair, target, strict=True))
        offset += table.shape[-1]
    return _matches(torch.tensor(rows, dtype=torch.int64, device=output.device).view(layers, -1, 3))


def match_slots(output: ModelOutput, targets: Sequence[Targets]) -> Matches:
    """Return the tagger's assignment: target i of an image belongs to slot i. Raises ValueError when there are too few slots."""
    layers, _, slots = output.sub_logits.shape[:3]
    rows: list[tuple[int, int, int]] = []
    for image, target in enumerate(targets):
        if len(target) > slots:
            raise ValueError(f"image {image} of the batch has {len(target)} pairs, but the tagger has {slots} slots")
        offset = len(rows)
        rows.extend((image, slot, offset + slot) for slot in range(len(target)))
    index = torch.tensor(rows, dtype=torch.int64, device=output.sub_logits.device).view(1, -1, 3)
    return _matches(index.expand(layers, -1, -1))


def _matches(index: Tensor) -> Matches:
    layer = torch.arange(len(index), device=index.device)[:, None].expand(-1, index.shape[1])
    return Matches(layer, index[..., 0], index[..., 1], index[..., 2])
