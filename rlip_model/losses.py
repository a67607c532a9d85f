"""The losses of pre-training, fine-tuning and tagger training (RLIPv1 sections 3.3 and 3.4, used unchanged by RLIPv2).

Shape legend: D decoder layers, B batch, P pairs, M matched pairs, N targets of the batch, No object labels
("no objects" last), Nv relation labels, W text width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rlip_model.boxes import generalized_iou
from rlip_model.matching import (
    MatchCost,
    Matches,
    Targets,
    concatenate,
    has_object,
    match_hungarian,
    match_slots,
)
from rlip_model.model import ModelOutput

EPS = 1e-6
"""Probabilities inside logarithms stay this far from 0 and 1."""


@dataclass(frozen=True)
class LossConfig:
    """Weights and switches of the criterion."""

    classes: float = 1.0
    relations: float = 1.0
    l1: float = 2.5
    giou: float = 1.0
    no_objects_weight: float = 0.1
    """Weight of the background class in the cross-entropy."""
    relational_quality: bool = True
    """RQL: a matched pair's relation target is scaled by the quality of its boxes."""
    pseudo_relations: bool = False
    """RPL: relations with similar label vectors count as partly true. Needs `relational_quality`."""
    pseudo_threshold: float = 0.3
    pseudo_gradient: bool = True
    """Let the gradient of the relation loss reach the text encoder through the RPL target, as published."""
    subject_class: bool = True
    """Classify subjects too, and use their class in the matching."""
    assignment: Literal["hungarian", "slots"] = "hungarian"
    """`slots`: pair i of the input is target i (tagger)."""

    def __post_init__(self) -> None:
        if self.pseudo_relations and not self.relational_quality:
            raise ValueError(
                "pseudo_relations (RPL) refines the quality labels: switch on relational_quality (RQL) too"
            )


@dataclass(frozen=True)
class Losses:
    """total: the weighted sum to minimise. terms: unweighted values by name, last layer bare, others with `_0`, `_1`..."""

    total: Tensor
    terms: dict[str, Tensor]
    matches: Matches


TERM_NAMES = ("class", "relation", "sub_l1", "obj_l1", "sub_giou", "obj_giou")


class RelationCriterion(nn.Module):
    """Matches predictions with targets, layer by layer, and sums all losses over the layers."""

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.config = config
        self.cost = MatchCost(config.classes, config.relations, config.l1, config.giou, config.subject_class)

    def forward(
        self,
        output: ModelOutput,
        targets: Sequence[Targets],
        pooled: Tensor,
        num_objects: int,
        mean_triplets: float | None = None,
    ) -> Losses:
        """
        Args:
            output: predictions of all layers.
            targets: one entry an image; an image without triplets is background only.
            pooled: (T, W) label vectors the output was made with (RPL reads the relation rows).
            num_objects: No, "no objects" included.
            mean_triplets: triplets of such a batch, averaged over the processes that share a step, which subject boxes are divided by; by
                default those of this batch.
        """
        config = self.config
        slots = config.assignment == "slots"
        matches = match_slots(output, targets) if slots else match_hungarian(output, targets, self.cost)
        flat = concatenate(targets)
        count = max(float(len(flat)) if mean_triplets is None else mean_triplets, 1.0)
        values = {"class": self._class_loss(output, flat, matches)}
        boxes, quality = _box_losses(output, flat, matches, count)
        values["relation"] = self._relation_loss(output, flat, matches, quality, pooled[num_objects:])
        values.update(boxes)
        weights = {
            "class": config.classes,
            "relation": config.relations,
            "sub_l1": config.l1,
            "obj_l1": config.l1,
            "sub_giou": config.giou,
            "obj_giou": config.giou,
        }
        total = torch.stack([weights[name] * values[name].sum() for name in TERM_NAMES]).sum()
        layers = len(output.sub_logits)
        terms = {
            name if layer == layers - 1 else f"{name}_{layer}": values[name][layer]
            for name in TERM_NAMES
            for layer in range(layers)
        }
        return Losses(total, terms, matches)

    def _class_loss(self, output: ModelOutput, targets: Targets, matches: Matches) -> Tensor:
        """Weighted cross-entropy of objects (and subjects), (D,)."""
        roles = [(output.obj_logits, targets.obj_labels)]
        if self.config.subject_class:
            roles.append((output.sub_logits, targets.sub_labels))
        result = output.obj_logits.new_zeros(len(output.obj_logits))
        for logits, labels in roles:
            wanted = labels[matches.target]
            if self.config.assignment == "slots":
                logits = matches.take(logits)
            else:
                everywhere = torch.full(logits.shape[:3], logits.shape[-1] - 1, device=logits.device)
                everywhere[matches.layer, matches.image, matches.pair] = wanted
                wanted, logits = everywhere.flatten(1), logits.flatten(1, 2)
            if wanted.shape[1]:
                result = result + self._cross_entropy(logits, wanted)
        return result

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(D, N, No), (D, N) -> (D,): mean weighted by the labels' class weights."""
        surprise = -logits.log_softmax(-1).gather(-1, labels[..., None])[..., 0]
        background = labels == logits.shape[-1] - 1
        weight = torch.where(background, self.config.no_objects_weight, 1.0).to(logits.dtype)
        return (surprise * weight).sum(1) / weight.sum(1)

    def _relation_loss(
        self, output: ModelOutput, targets: Targets, matches: Matches, quality: Tensor, label_vectors: Tensor
    ) -> Tensor:
        """(D,); quality (D, M) in 0..1."""
        wanted = targets.relations
        if self.config.pseudo_relations:
            vectors = label_vectors if self.config.pseudo_gradient else label_vectors.detach()
            wanted = wanted + pseudo_relations(vectors, wanted, self.config.pseudo_threshold)
        wanted = wanted[matches.target]
        if self.config.relational_quality:
            wanted = wanted * quality[..., None]
        logits = output.relation_logits
        if self.config.assignment == "slots":
            logits = matches.take(logits)
        else:
            everywhere = torch.zeros_like(logits)
            wanted = everywhere.index_put((matches.layer, matches.image, matches.pair), wanted).flatten(1, 2)
            logits = logits.flatten(1, 2)
        return quality_focal_loss(logits, wanted) if self.config.relational_quality else focal_loss(logits, wanted)


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """CornerNet's focal loss over (D, N, Nv), divided by the number of ones; (D,)."""
    probability = logits.sigmoid().clamp(EPS, 1 - EPS)
    is_one = targets == 1
    positive = torch.where(is_one, probability.log() * (1 - probability) ** 2, 0.0)
    negative = torch.where(is_one, 0.0, (1 - probability).log() * probability**2 * (1 - targets) ** 4)
    count = is_one.flatten(1).sum(1).clamp(min=1)
    return -(positive + negative).flatten(1).sum(1) / count


def quality_focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Quality focal loss over (D, N, Nv) with soft targets, divided by the number of positive targets; (D,)."""
    probability = logits.sigmoid().clamp(EPS, 1 - EPS)
    entropy = targets * probability.log() + (1 - targets) * (1 - probability).log()
    count = (targets > 0).flatten(1).sum(1).clamp(min=1)
    return -((targets - probability) ** 2 * entropy).flatten(1).sum(1) / count


def pseudo_relations(label_vectors: Tensor, relations: Tensor, threshold: float) -> Tensor:
    """RPL: how true the *other* relations are of each triplet, by the distance of their label vectors.

    Args:
        label_vectors: (Nv, W) vectors of the relation labels before any fusion.
        relations: (N, Nv) multi-hot.
        threshold: smaller similarities are 0.
    Returns:
        (N, Nv) in 0..1, 0 where the relation is given.
    """
    distance = label_distances(label_vectors)
    similarity = relations @ (distance.amax(-1, keepdim=True) - distance)
    highest = similarity.amax(-1, keepdim=True)
    similarity = similarity / torch.where(highest > 0, highest, 1.0)
    similarity = torch.where(relations > 0, 0.0, similarity)
    return torch.where(similarity > threshold, similarity, 0.0)


def label_distances(vectors: Tensor) -> Tensor:
    """(Nv, W) -> (Nv, Nv): Euclidean distances, without the differences of all pairs in memory."""
    # The published code adds 1e-6 to every difference; it keeps the gradient finite where two vectors coincide.
    return torch.cdist(vectors + 1e-6, vectors, compute_mode="donot_use_mm_for_euclid_dist")


def _box_losses(
    output: ModelOutput, targets: Targets, matches: Matches, count: float
) -> tuple[dict[str, Tensor], Tensor]:
    """Box losses (D,) by name, and the quality (D, M) of each matched pair, without gradient.

    Subject terms are divided by the mean number of triplets over all ranks, object terms by the local number of objects.
    """
    sub_target, obj_target = targets.sub_boxes[matches.target], targets.obj_boxes[matches.target]
    sub, obj = matches.take(output.sub_boxes), matches.take(output.obj_boxes)
    exists = has_object(obj_target)
    objects = exists.sum(1) + 1e-4
    sub_giou = generalized_iou(sub, sub_target)
    obj_giou = generalized_iou(obj, obj_target)
    losses = {
        "sub_l1": (sub - sub_target).abs().sum((1, 2)) / count,
        "sub_giou": (1 - sub_giou).sum(1) / count,
        "obj_l1": ((obj - obj_target).abs().sum(-1) * exists).sum(1) / objects,
        "obj_giou": torch.where(exists, 1 - obj_giou, 0.0).sum(1) / objects,
    }
    quality = (torch.where(exists, torch.minimum(sub_giou, obj_giou), sub_giou).detach() + 1) / 2
    return losses, quality
