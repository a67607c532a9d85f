"""R-Tagger: queries made from given pairs of labelled boxes, and the noise of its training (RLIPv2, "Relation Tagger").

Shape legend: B batch, P pair slots, T texts, C model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from rlip_model.boxes import inverse_sigmoid
from rlip_model.config import ModelConfig
from rlip_model.queries import QueryStart, ReferencePoints, relation_position_table, sum_of_roles

if TYPE_CHECKING:
    from rlip_model.model import Rlip

PairParts = tuple[Tensor, Tensor, Tensor, Tensor]
"""Pairs of one image: sub_boxes (n, 4), obj_boxes (n, 4), sub_labels (n,), obj_labels (n,)."""


@dataclass(frozen=True)
class TaggerPairs:
    """Pairs to be tagged; slot i of the input is pair i of the output.

    sub_boxes, obj_boxes: (B, P, 4) centre and size, fractions; sub_labels, obj_labels: (B, P) int64, object rows;
    valid: (B, P) bool, False = empty slot. blocked: (B, 2 P, 2 P) bool or None, see `leak_guard`.
    """

    sub_boxes: Tensor
    obj_boxes: Tensor
    sub_labels: Tensor
    obj_labels: Tensor
    valid: Tensor
    blocked: Tensor | None = None

    def to(self, device: torch.device | str) -> TaggerPairs:
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)


def collate_pairs(images: Sequence[PairParts], slots: int) -> TaggerPairs:
    """Batch the pairs of several images.

    Args:
        slots: P of the model. Raises ValueError when an image has more pairs.
    """
    most = max((len(image[2]) for image in images), default=0)
    if most > slots:
        raise ValueError(f"an image has {most} pairs, but the tagger has {slots} slots: split them into groups")
    batch = len(images)
    sub_boxes, obj_boxes = torch.zeros(batch, slots, 4), torch.zeros(batch, slots, 4)
    sub_labels, obj_labels = torch.zeros(batch, slots, dtype=torch.int64), torch.zeros(batch, slots, dtype=torch.int64)
    valid = torch.zeros(batch, slots, dtype=torch.bool)
    for index, parts in enumerate(images):
        count = len(parts[2])
        for target, part in zip((sub_boxes, obj_boxes, sub_labels, obj_labels), parts, strict=True):
            target[index, :count] = part.to(target)
        valid[index, :count] = True
    return TaggerPairs(sub_boxes, obj_boxes, sub_labels, obj_labels, valid)


@torch.inference_mode()
def score_pairs(
    model: Rlip,
    images: Tensor,
    mask: Tensor,
    pooled: Tensor,
    num_objects: int,
    pairs: Sequence[PairParts],
    rows: int,
) -> list[Tensor]:
    """Score every relation for any number of pairs per image.

    Each image is encoded once with all texts; its pairs then go through the decoders P at a time, `rows` such chunks per pass.

    Args:
        images, mask, pooled, num_objects: as in `Rlip.forward`.
        pairs: one entry per image, on any device.
    Returns:
        per image (n, Nv) float32 on the CPU, in the order of its pairs.
    """
    encoded = model.encode(images, mask, pooled)
    slots = model.config.pairs
    chunks: list[tuple[int, PairParts]] = []
    for image, (sub_boxes, obj_boxes, sub_labels, obj_labels) in enumerate(pairs):
        for start in range(0, len(sub_labels), slots):
            cut = slice(start, start + slots)
            chunks.append((image, (sub_boxes[cut], obj_boxes[cut], sub_labels[cut], obj_labels[cut])))
    found = [[torch.empty(0, len(pooled) - num_objects)] for _ in pairs]
    for start in range(0, len(chunks), rows):
        some = chunks[start : start + rows]
        owners = torch.tensor([image for image, _ in some], device=images.device)
        queries = collate_pairs([parts for _, parts in some], slots).to(images.device)
        logits = model.decode(encoded.select(owners), num_objects, queries).relation_logits[-1]
        for (image, parts), scores in zip(some, logits.float().sigmoid().cpu(), strict=True):
            found[image].append(scores[: len(parts[2])])
    return [torch.cat(scores) for scores in found]


@dataclass(frozen=True)
class PairNoise:
    """Noise on the tagger's training queries (the losses keep the clean pairs).

    label: chance that a label is replaced by a random one; box: centres move by up to box / 2 and sizes change by up to
    `box` of the box's size. label_range: draw from all object labels, or, as published, from as many as the batch has
    images. leak_guard: forbid slots of the same entity to read each other's noise (`each_image`), as published (acts
    only when every slot of the batch is filled), or not at all.
    """

    label: float = 0.2
    box: float = 0.4
    label_range: Literal["labels", "batch"] = "labels"
    leak_guard: Literal["each_image", "published", "off"] = "each_image"


def perturb_pairs(pairs: TaggerPairs, noise: PairNoise, num_objects: int, generator: torch.Generator) -> TaggerPairs:
    """Return a noisy copy of `pairs`; `num_objects` counts the object labels without "no objects"."""
    limit = pairs.valid.shape[0] if noise.label_range == "batch" else num_objects

    def move(boxes: Tensor) -> Tensor:
        shift = torch.rand(boxes.shape, generator=generator).to(boxes) * 2 - 1
        size = boxes[..., 2:]
        centre = boxes[..., :2] + shift[..., :2] * size * (noise.box / 2)
        return torch.cat([centre, size + shift[..., 2:] * size * noise.box], dim=-1).clamp(0, 1)

    def relabel(labels: Tensor) -> Tensor:
        chosen = torch.rand(labels.shape, generator=generator).to(labels.device) < noise.label
        drawn = torch.randint(limit, labels.shape, generator=generator).to(labels)
        return torch.where(chosen, drawn, labels)

    return replace(
        pairs,
        sub_boxes=move(pairs.sub_boxes),
        obj_boxes=move(pairs.obj_boxes),
        sub_labels=relabel(pairs.sub_labels),
        obj_labels=relabel(pairs.obj_labels),
        blocked=leak_guard(pairs, noise.leak_guard),
    )


def leak_guard(pairs: TaggerPairs, kind: Literal["each_image", "published", "off"]) -> Tensor | None:
    """Return the slots that must not read each other: different slots of one entity (same label, same clean box).

    Several noisy copies of one box would together give the clean one away.

    Returns:
        (B, 2 P, 2 P) bool, True = blocked; None where nothing is.
    """
    if kind == "off" or (kind == "published" and not bool(pairs.valid.all())):
        return None
    labels = torch.cat([pairs.sub_labels, pairs.obj_labels], dim=1)
    boxes = torch.cat([pairs.sub_boxes, pairs.obj_boxes], dim=1)
    valid = torch.cat([pairs.valid, pairs.valid], dim=1)
    same = (labels[:, :, None] == labels[:, None]) & (boxes[:, :, None] == boxes[:, None]).all(-1)
    same &= valid[:, :, None] & valid[:, None]
    return same & ~torch.eye(labels.shape[1], dtype=torch.bool, device=labels.device)


class TaggerQueries(nn.Module):
    """Position from the box, content from the label's fused text feature; relation content is learned."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pairs = config.pairs
        self.box_position = nn.Linear(4, config.width)
        self.relation_content = nn.Parameter(torch.randn(config.queries, config.width))
        self.points = ReferencePoints(config)
        self.relation_position = relation_position_table(config)
        self._start_at_box_centres()

    @torch.no_grad()
    def _start_at_box_centres(self) -> None:
        """Fresh reference points are the centres of the given boxes (the published start is random and must learn that)."""
        self.box_position.bias.zero_()
        centre = torch.linalg.pinv(self.box_position.weight)[:2]
        for layer in (self.points.sub, self.points.obj):
            layer.weight.copy_(centre)

    def forward(self, pairs: TaggerPairs, labels: Tensor) -> QueryStart:
        """Return the queries of given pairs; labels (B, T, C), text features of the last fusion, are used without gradient."""
        if pairs.valid.shape[1] != self.pairs:
            raise ValueError(f"this tagger has {self.pairs} pair slots, got {pairs.valid.shape[1]}")
        valid = torch.cat([pairs.valid, pairs.valid], dim=1)
        boxes = torch.cat([pairs.sub_boxes, pairs.obj_boxes], dim=1)
        rows = torch.cat([pairs.sub_labels, pairs.obj_labels], dim=1)
        position = self.box_position(inverse_sigmoid(boxes)) * valid[..., None]
        features = labels.detach().expand(rows.shape[0], -1, -1)
        content = features.gather(1, rows[..., None].expand(-1, -1, features.shape[-1])) * valid[..., None]
        sub, obj = self.points(position)
        # An image without pairs keeps slot 0 open: attention over no key at all is undefined.
        empty = ~pairs.valid.any(dim=1)
        unused = ~valid
        unused[:, 0] &= ~empty
        return QueryStart(
            content=content,
            position=position,
            sub_reference=sub,
            obj_reference=obj,
            relation_content=sum_of_roles(self.relation_content),
            relation_position=self.relation_position,
            unused=unused,
            blocked=pairs.blocked,
        )
