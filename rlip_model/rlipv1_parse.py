"""RLIPv1-ParSe: encoder and decoders of DETR, with dense attention (RLIPv1, "Parallel entity detection", "Sequential relation inference").

Image tokens and labels pass the encoder as one sequence, as in MDETR, and both decoders read all of it. Layers, heads, matching, losses and
text side are those of the deformable networks. Shape legend: B batch, S image tokens, T texts, Q entity queries, P = Q / 2 pairs, C model
width, D decoder layers.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from rlip_model.alif import EncoderLayer
from rlip_model.config import ModelConfig
from rlip_model.decoder import DecoderLayer, EntityStates, RelationStates
from rlip_model.layers import BoxHead, Memory
from rlip_model.vision.pyramid import Pyramid


class DenseEncoder(nn.Module):
    """Post-norm self-attention over image tokens and labels together; labels have no position."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))

    def forward(self, pyramid: Pyramid, labels: Tensor, text_mask: Tensor | None) -> tuple[Memory, list[Tensor]]:
        """Return the memory of S + T tokens, and the labels (B, T, C) after each layer.

        Args:
            pyramid: the image tokens.
            labels: (T, C) label vectors.
            text_mask: (T,) bool, True = no key, here and in the decoders; or None.
        """
        batch, image_tokens, _ = pyramid.tokens.shape
        tokens = torch.cat([pyramid.tokens, labels.expand(batch, -1, -1)], dim=1)
        position = torch.cat([pyramid.position, torch.zeros_like(tokens[:, image_tokens:])], dim=1)
        ignored = pyramid.padding.new_zeros(len(labels)) if text_mask is None else text_mask
        padding = torch.cat([pyramid.padding, ignored.expand(batch, -1)], dim=1)
        memory = Memory(tokens, padding, pyramid.shapes, pyramid.valid_ratios, position)
        stages = []
        for layer in self.layers:
            memory = replace(memory, tokens=layer(memory, position, position[..., :0]))
            stages.append(memory.tokens[:, image_tokens:])
        return memory, stages


class DenseDecoder(nn.Module):
    """Decoder layers with one position for all of them; one norm makes the output of each, and the next layer reads what is before it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.width)

    def read(self, x: Tensor, position: Tensor, memory: Memory) -> Tensor:
        """Return the features (D, B, Q, C) of queries with content x and `position` (B, Q, C)."""
        features = []
        for layer in self.layers:
            x = layer(x, position, position[..., :0], memory)
            features.append(self.norm(x))
        return torch.stack(features)


class DenseEntityDecoder(DenseDecoder):
    """Parallel entity detection; one subject and one object box head for all layers, which predict boxes without a reference."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.sub_boxes = BoxHead(config.width)
        self.obj_boxes = BoxHead(config.width)

    def forward(
        self,
        content: Tensor,
        learned_position: Tensor,
        sub_reference: Tensor,
        obj_reference: Tensor,
        memory: Memory,
        unused: None = None,
        blocked: None = None,
    ) -> EntityStates:
        """Return features and boxes of all layers, as `EntityDecoder` does; references (B, P, 0)."""
        features = self.read(content, learned_position, memory)
        sub, obj = features.chunk(2, dim=2)
        starts = ((sub_reference, obj_reference),) * len(features)
        boxes = self.sub_boxes.refine(sub, sub_reference), self.obj_boxes.refine(obj, obj_reference)
        return EntityStates(features, *boxes, starts)


class DenseRelationDecoder(DenseDecoder):
    """Sequential relation inference; queries differ by their positions, the pairs' entity features, alone."""

    def forward(
        self,
        content: Tensor,
        learned_position: Tensor,
        sub_reference: Tensor,
        obj_reference: Tensor,
        memory: Memory,
        unused: None = None,
    ) -> RelationStates:
        """Return features of all layers, as `RelationDecoder` does; references stay what they are."""
        features = self.read(content, learned_position, memory)
        references = (reference.expand(len(features), -1, -1, -1) for reference in (sub_reference, obj_reference))
        return RelationStates(features, *references)
