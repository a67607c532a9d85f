"""The counts that the losses are divided by, taken over a whole step instead of over one part of it.

The published losses divide by the counts of each process, so their value depends on how many processes share a batch. Here every term of
a part is rescaled from the part's count to that of the step: one process, several processes and accumulated parts then give the same
losses and gradients.

The quirk `published.part_counts` keeps the parts' own counts and averages the parts, as processes with a mean of gradients do; a triplet
in a part with few then weighs more than one in a part with many. A part is a process or an accumulated slice of its batch: eight
processes and one process with eight slices give the same losses, so a recipe of eight GPUs can be followed on one.

What remains is the padding: parts are padded to their own largest image, and padded tokens take part in the language update (as
published), so the agreement is one of float rounding where the images of a step have one size.

| term              | divided by                                              |
|-------------------|---------------------------------------------------------|
| class             | weights of all pair slots (a background slot weighs 0.1) |
| sub_l1, sub_giou  | triplets, at least 1                                    |
| obj_l1, obj_giou  | triplets with an object, plus 0.0001                    |
| relation          | positive relation targets, at least 1                   |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlip_model import LossConfig, Losses, Targets
from rlip_model.losses import pseudo_relations

_OBJECT_EPS = 1e-4


@dataclass(frozen=True)
class Counts:
    """Additive counts of a part of a step, as a (4,) tensor: class weight, triplets, triplets with an object, positive targets."""

    values: Tensor

    @classmethod
    def of(cls, targets: Sequence[Targets], slots: int, label_vectors: Tensor, config: LossConfig) -> Counts:
        """Counts from the targets alone.

        Args:
            targets: one an image, none with more triplets than slots.
            slots: pairs that the network predicts for an image.
            label_vectors: (Nv, W) relation label vectors before fusion.
        """
        triplets = sum(map(len, targets))
        background = 0 if config.assignment == "slots" else slots * len(targets) - triplets
        objects = sum(int((target.obj_boxes != 0).any(-1).sum()) for target in targets)
        relations = torch.cat([target.relations for target in targets])
        if config.pseudo_relations and triplets:
            relations = relations + pseudo_relations(label_vectors, relations, config.pseudo_threshold)
        positive = float((relations > 0).sum())
        weight = triplets + config.no_objects_weight * background
        return cls(
            torch.tensor([weight, triplets, objects, positive], dtype=torch.float64, device=label_vectors.device)
        )

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.values + other.values)

    @property
    def triplets(self) -> float:
        return float(self.values[1])

    @property
    def divisors(self) -> dict[str, float]:
        """What each term is divided by."""
        weight, triplets, objects, positive = self.values.tolist()
        return {
            "class": weight if weight else 1.0,
            "sub_l1": max(triplets, 1.0),
            "sub_giou": max(triplets, 1.0),
            "obj_l1": objects + _OBJECT_EPS,
            "obj_giou": objects + _OBJECT_EPS,
            "relation": max(positive, 1.0),
        }


def rescaled(
    losses: Losses, part: Counts, whole: Counts, config: LossConfig, mean_triplets: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Total and terms of one part, divided by the counts of the whole step; parts add up to the step's loss.

    Args:
        losses: what the criterion returned for the part.
        part, whole: counts of the part and of the step.
        mean_triplets: triplets of such a part, averaged over the processes; the criterion divides subject boxes by it.
    """
    own, step = part.divisors, whole.divisors
    own["sub_l1"] = own["sub_giou"] = max(mean_triplets, 1.0)
    return _weighted(
        {name: value * (own[_base(name)] / step[_base(name)]) for name, value in losses.terms.items()}, config
    )


def averaged(
    losses: Losses, whole: Counts, parts: int, config: LossConfig, mean_triplets: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Total and terms of one part as published: divided by the part's own counts and by the number of parts.

    Subject boxes alone are divided by the mean number of triplets over the parts of the step.

    Args:
        losses, mean_triplets: as for `rescaled`.
        whole: counts of the step.
        parts: of the step, all processes together.
    """
    subjects = max(mean_triplets, 1.0) / max(whole.triplets / parts, 1.0)
    return _weighted(
        {
            name: value * ((subjects if name.startswith("sub_") else 1.0) / parts)
            for name, value in losses.terms.items()
        },
        config,
    )


def _weighted(terms: dict[str, Tensor], config: LossConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the terms, and the terms."""
    weights = {"class": config.classes, "relation": config.relations}
    weights |= {
        f"{role}_{kind}": value for role in ("sub", "obj") for kind, value in (("l1", config.l1), ("giou", config.giou))
    }
    return torch.stack([weights[_base(name)] * value for name, value in terms.items()]).sum(), terms


def _base(term: str) -> str:
    """The term without its layer number."""
    return term.rstrip("0123456789").rstrip("_") if term[-1].isdigit() and not term.endswith("_l1") else term
