"""Losses of pre-training, fine-tuning and tagger training, with RQL and RPL (RLIPv1, used unchanged by RLIPv2).

RQL: "Relational Quality Labels", `quality` below. RPL: "Relational Pseudo-Labels", `pseudo_relations`.

Shape legend: D decoder layers, B batch, P pairs, M matched pairs, N targets of the batch, No object labels
("no objects" last), Nv relation labels, W text width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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


TERM_NAMES = ("class", "relation", "sub_l1", "obj_l1", "sub_giou", "obj_giou")


@dataclass(frozen=True)
class LossCounts:
    """Divisors of a batch's sums; the counts of several batches add up.

    The published losses divide by the counts of each process, so that their value depends on how many processes share a batch.
    Divided by the counts of the whole step instead, one process, several processes and accumulated parts give the same losses and
    gradients, but for padding: parts are padded to their own largest image, and padded tokens take part in the language update.

    values: (4, D) or, where all layers count alike, (4, 1), float64: class weights of the judged pairs (background weighs less),
    triplets, triplets with an object, positive relation targets.
    """

    values: Tensor

    def __add__(self, other: LossCounts) -> LossCounts:
        return LossCounts(self.values + other.values)

    def divisors(self) -> Tensor:
        """Return what each term is divided by, (6, D) or (6, 1), rows as `TERM_NAMES`."""
        weight, triplets, objects, positive = self.values
        weight, triplets, positive = weight.where(weight > 0, 1.0), triplets.clamp(min=1), positive.clamp(min=1)
        return torch.stack([weight, positive, triplets, objects + 1e-4, triplets, objects + 1e-4])

    def published_divisors(self, whole: LossCounts, parts: int) -> Tensor:
        """Return the divisors of one of `parts` parts of a step as published: the part's own counts, and the mean over the parts.

        Subject boxes alone are divided by the mean number of triplets. A part is a process or an accumulated slice of its batch, so
        that one process with eight slices follows a recipe of eight GPUs.
        """
        weight, _, objects, positive = self.values
        triplets = (whole.values[1] / parts).expand_as(weight)
        return LossCounts(torch.stack([weight, triplets, objects, positive])).divisors() * parts


@dataclass(frozen=True)
class Losses:
    """Output of the criterion: sums (6, D), rows as `TERM_NAMES`, columns decoder layers; their counts and weights (6,)."""

    sums: Tensor
    counts: LossCounts
    weights: Tensor
    matches: Matches

    def divided(self, divisors: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total to minimise and the unweighted terms by name, last layer bare, others with `_0`, `_1`..."""
        terms = self.sums / divisors.to(self.sums)
        last = terms.shape[1] - 1
        named = {
            name if layer == last else f"{name}_{layer}": terms[row, layer]
            for row, name in enumerate(TERM_NAMES)
            for layer in range(last + 1)
        }
        return (self.weights[:, None] * terms).sum(), named

    @cached_property
    def _alone(self) -> tuple[Tensor, dict[str, Tensor]]:
        return self.divided(self.counts.divisors())

    @property
    def total(self) -> Tensor:
        """The total of this batch alone, divided by its own counts."""
        return self._alone[0]

    @property
    def terms(self) -> dict[str, Tensor]:
        """The terms of this batch alone, divided by its own counts."""
        return self._alone[1]


class RelationCriterion(nn.Module):
    """Match predictions with targets, layer by layer, and sum all losses (set prediction as in DETR and RLIPv1)."""

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
        ignored: Tensor | None = None,
    ) -> Losses:
        """Return the sums of all losses and their counts.

        Args:
            output: predictions of all layers.
            targets: one entry per image; an image without triplets is background only.
            pooled: (T, W) label vectors the output was made with (RPL reads the relation rows).
            num_objects: No, "no objects" included.
            ignored: (No, Nv) True for cells of object and relation that take no part in the relation loss, except where a target is
                positive in one. The object is the target's, or the likeliest real one where a pair is not matched.
        """
        config = self.config
        slots = config.assignment == "slots"
        matches = match_slots(output, targets) if slots else match_hungarian(output, targets, self.cost)
        flat = concatenate(targets)
        classes, weight = self._class_loss(output, flat, matches)
        boxes, quality, objects = _box_losses(output, flat, matches)
        wanted = self._relation_targets(flat, pooled[num_objects:], ignored)[matches.target]
        relation, positive = self._relation_loss(
            self._relation_logits(output, flat, matches, ignored), wanted, matches, quality
        )
        counts = torch.stack([weight, torch.full_like(weight, len(flat)), objects, positive]).double()
        weights = boxes.new_tensor([config.classes, config.relations, config.l1, config.l1, config.giou, config.giou])
        return Losses(torch.cat([torch.stack([classes, relation]), boxes]), LossCounts(counts), weights, matches)

    @torch.no_grad()
    def counts(
        self,
        targets: Sequence[Targets],
        pairs: int,
        pooled: Tensor,
        num_objects: int,
        ignored: Tensor | None = None,
    ) -> LossCounts:
        """Return the counts of a batch from its targets alone, before the network has run: (4, 1).

        Args:
            targets: one entry per image. Where an image has more than `pairs` triplets, those that stay unmatched count too.
            pairs: P of the network.
            pooled, num_objects, ignored: as in `forward`.
        """
        flat = concatenate(targets)
        matched = sum(min(len(target), pairs) for target in targets)
        background = 0 if self.config.assignment == "slots" else pairs * len(targets) - matched
        weight = matched + self.config.no_objects_weight * background
        positive = self._relation_targets(flat, pooled[num_objects:], ignored) > 0
        values = [weight, len(flat), has_object(flat.obj_boxes).sum(), positive.sum()]
        return LossCounts(torch.tensor(values, dtype=torch.float64, device=pooled.device)[:, None])

    def _class_loss(self, output: ModelOutput, targets: Targets, matches: Matches) -> tuple[Tensor, Tensor]:
        """Weighted cross-entropy of objects (and subjects), and the weights of the objects' labels; (D,) each."""
        roles = [(output.obj_logits, targets.obj_labels)]
        if self.config.subject_class:
            roles.append((output.sub_logits, targets.sub_labels))
        total = weight = output.obj_logits.new_zeros(len(output.obj_logits))
        for logits, labels in reversed(roles):
            wanted = labels[matches.target]
            if self.config.assignment == "slots":
                logits = matches.take(logits)
            else:
                everywhere = torch.full(logits.shape[:3], logits.shape[-1] - 1, device=logits.device)
                everywhere[matches.layer, matches.image, matches.pair] = wanted
                wanted, logits = everywhere.flatten(1), logits.flatten(1, 2)
            surprise = -logits.log_softmax(-1).gather(-1, wanted[..., None])[..., 0]
            background = wanted == logits.shape[-1] - 1
            weights = torch.where(background, self.config.no_objects_weight, 1.0).to(logits.dtype)
            total, weight = total + (surprise * weights).sum(1), weights.sum(1)
        return total, weight

    def _relation_logits(
        self, output: ModelOutput, targets: Targets, matches: Matches, ignored: Tensor | None
    ) -> Tensor:
        """Relation logits (D, B, P, Nv); those of ignored cells are minus infinity, which costs nothing where nothing is wanted."""
        if ignored is None:
            return output.relation_logits
        cells = ignored[output.obj_logits[..., :-1].argmax(-1)]
        cells[matches.layer, matches.image, matches.pair] = _ignored_targets(targets, ignored)[matches.target]
        return output.relation_logits.masked_fill(cells, -torch.inf)

    def _relation_loss(
        self, logits: Tensor, wanted: Tensor, matches: Matches, quality: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(Quality) focal loss and its positive targets, (D,) each; wanted (D, M, Nv), quality (D, M) in 0..1."""
        if self.config.relational_quality:
            wanted = wanted * quality[..., None]
        if self.config.assignment == "slots":
            logits = matches.take(logits)
        else:
            everywhere = torch.zeros_like(logits)
            wanted = everywhere.index_put((matches.layer, matches.image, matches.pair), wanted).flatten(1, 2)
            logits = logits.flatten(1, 2)
        loss = quality_focal_loss if self.config.relational_quality else focal_loss
        return loss(logits, wanted), (wanted > 0).flatten(1).sum(1)

    def _relation_targets(self, targets: Targets, label_vectors: Tensor, ignored: Tensor | None) -> Tensor:
        """Targets (N, Nv) before their quality is known: what is annotated, and with RPL what is similar to it."""
        relations = targets.relations
        if self.config.pseudo_relations:
            vectors = label_vectors if self.config.pseudo_gradient else label_vectors.detach()
            relations = relations + pseudo_relations(vectors, relations, self.config.pseudo_threshold)
        return relations if ignored is None else relations.masked_fill(_ignored_targets(targets, ignored), 0.0)


def _ignored_targets(targets: Targets, ignored: Tensor) -> Tensor:
    """(N, Nv) True for the ignored cells of targets: those of their objects in which they are not positive."""
    return ignored[targets.obj_labels] & (targets.relations <= 0)


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return CornerNet's focal loss, summed over (D, N, Nv) to (D,); published divided by the number of ones."""
    probability = logits.sigmoid().clamp(EPS, 1 - EPS)
    is_one = targets == 1
    positive = torch.where(is_one, probability.log() * (1 - probability) ** 2, 0.0)
    negative = torch.where(is_one, 0.0, (1 - probability).log() * probability**2 * (1 - targets) ** 4)
    return -(positive + negative).flatten(1).sum(1)


def quality_focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the quality focal loss of soft targets, summed over (D, N, Nv) to (D,); published divided by the positive targets."""
    probability = logits.sigmoid().clamp(EPS, 1 - EPS)
    entropy = targets * probability.log() + (1 - targets) * (1 - probability).log()
    return -((targets - probability) ** 2 * entropy).flatten(1).sum(1)


def pseudo_relations(label_vectors: Tensor, relations: Tensor, threshold: float) -> Tensor:
    """Return RPL: the share of truth of the *other* relations of each triplet, by the distance of their label vectors.

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
    """Return Euclidean distances (Nv, Nv) of vectors (Nv, W), without the differences of all pairs in memory."""
    # The published code adds 1e-6 to every difference; it keeps the gradient finite where two vectors coincide.
    return torch.cdist(vectors + 1e-6, vectors, compute_mode="donot_use_mm_for_euclid_dist")


def _box_losses(output: ModelOutput, targets: Targets, matches: Matches) -> tuple[Tensor, Tensor, Tensor]:
    """Box sums (4, D), rows as the last of `TERM_NAMES`; quality (D, M) of matched pairs, without gradient; number of objects (D,)."""
    sub_target, obj_target = targets.sub_boxes[matches.target], targets.obj_boxes[matches.target]
    sub, obj = matches.take(output.sub_boxes), matches.take(output.obj_boxes)
    exists = has_object(obj_target)
    sub_giou = generalized_iou(sub, sub_target)
    obj_giou = generalized_iou(obj, obj_target)
    sub_l1 = (sub - sub_target).abs().sum((1, 2))
    obj_l1 = ((obj - obj_target).abs().sum(-1) * exists).sum(1)
    sums = torch.stack([sub_l1, obj_l1, (1 - sub_giou).sum(1), torch.where(exists, 1 - obj_giou, 0.0).sum(1)])
    quality = (torch.where(exists, torch.minimum(sub_giou, obj_giou), sub_giou).detach() + 1) / 2
    return sums, quality, exists.sum(1)
