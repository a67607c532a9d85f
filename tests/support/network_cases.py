"""Shared parts of the network's tests: small configurations, small batches, shaken weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rlip_model.config import MICRO_TEXT, ModelConfig
from rlip_model.matching import Targets
from rlip_model.tagger import TaggerPairs, collate_pairs


@dataclass(frozen=True)
class Batch:
    """Two padded images, label vectors as `Rlip.forward` takes them, and targets."""

    images: Tensor
    mask: Tensor
    pooled: Tensor
    num_objects: int
    targets: list[Targets]

    def pairs(self, slots: int) -> TaggerPairs:
        return collate_pairs([(t.sub_boxes, t.obj_boxes, t.sub_labels, t.obj_labels) for t in self.targets], slots)


def small(name: str, **changes: object) -> ModelConfig:
    """A preset with few queries and a narrow text encoder, three fusions and three decoder layers, without dropout."""
    text = replace(MICRO_TEXT, width=32, feed_forward=48)
    config = replace(ModelConfig.preset(name), queries=12, encoder_layers=6, decoder_layers=3, text=text)
    return replace(config, **changes).without_dropout()  # type: ignore[arg-type]


def make_targets(count: int, num_objects: int, num_relations: int) -> Targets:
    boxes = torch.rand(2, count, 4) * 0.3 + torch.tensor([0.3, 0.3, 0.1, 0.1])
    relations = (torch.rand(count, num_relations) < 0.3).float()
    if count:
        relations[torch.arange(count), torch.randint(num_relations, (count,))] = 1.0
    labels = torch.randint(num_objects - 1, (2, count))
    return Targets(labels[0], labels[1], relations, boxes[0], boxes[1])


def make_batch(config: ModelConfig, counts: Sequence[int] = (3, 2), size: tuple[int, int] = (96, 128)) -> Batch:
    height, width = size
    images = torch.randn(len(counts), 3, height, width)
    mask = torch.zeros(len(counts), height, width, dtype=torch.bool)
    mask[0, :, width - 30 :] = True
    mask[-1, height - 20 :] = True
    images = images.masked_fill(mask[:, None], 0.0)
    pooled = torch.randn(12, config.width if config.is_rlipv1 else config.text.width).tanh()
    return Batch(images, mask, pooled, 7, [make_targets(count, 7, 5) for count in counts])


@torch.no_grad()
def shake(model: nn.Module) -> None:
    """Move every float tensor off its fresh value, so that zero-initialised parts take part."""
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            continue
        if name.endswith("running_var"):
            value.add_(torch.rand_like(value) * 0.2)
        elif value.dim() == 1:
            value.add_(torch.randn_like(value) * 0.1)
        elif name.endswith("offsets.weight") or "boxes" in name:
            value.add_(torch.randn_like(value) * 0.3 / value.shape[-1] ** 0.5)
        else:
            value.add_(torch.randn_like(value) * 0.2 / value.shape[-1] ** 0.5)
