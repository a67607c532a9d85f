"""Parallel entity decoder and sequential relation decoder (ParSe of RLIPv1; RLIPv2, figure 2; anchors of DAB-DETR).

Query i is the subject and query P + i the object of pair i; relation query i reads the same pair.
Shape legend: B batch, Q entity queries, P = Q / 2 pairs, L levels, C model width, D decoder layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlip_model.config import ModelConfig
from rlip_model.layers import BoxHead, FeedForward, Memory, Mlp, image_attention, on_levels, sine_code


class AnchorPosition(nn.Module):
    """Query position from the anchor box, modulated by the query's content (DAB-DETR)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.from_sine = Mlp((2 * width, width, width))
        self.scale = Mlp((width, width, width))

    def forward(self, references: Tensor, content: Tensor | None) -> Tensor:
        """Return positions (B, Q, C) of references (B, Q, 4); content (B, Q, C), None in the first layer. As in DAB-DETR."""
        position: Tensor = self.from_sine(sine_of_boxes(references, self.width // 2))
        return position if content is None else position * self.scale(content)


def sine_of_boxes(boxes: Tensor, channels: int) -> Tensor:
    """Return the sine code (..., 4 * channels) of boxes (..., 4) cx, cy, w, h; blocks in the order y, x, w, h."""
    return sine_code(boxes[..., [1, 0, 2, 3]] * (2 * math.pi), channels).flatten(-2)


class DecoderLayer(nn.Module):
    """Post-norm: self-attention among the queries, deformable or dense attention to the image, feed-forward."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(config.width, config.heads, config.dropout, batch_first=True)
        self.norm_self = nn.LayerNorm(config.width)
        self.cross_attention = image_attention(config, config.decoder_points)
        self.norm_cross = nn.LayerNorm(config.width)
        self.feed_forward = FeedForward(config.width, config.feed_forward, config.dropout)
        self.norm_feed_forward = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.xavier_uniform_(self.self_attention.out_proj.weight)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        references: Tensor,
        memory: Memory,
        unused: Tensor | None = None,
        blocked: Tensor | None = None,
    ) -> Tensor:
        """Return the queries (B, Q, C) after one layer.

        Args:
            x, position: (B, Q, C).
            references: (B, Q, 2) or (B, Q, 4), fractions of the unpadded image; (B, Q, 0) for dense attention.
            unused: (B, Q) bool, True = no key of the self-attention.
            blocked: (B, Q, Q) bool, True = this query may not read that one.
        """
        query = x + position
        if blocked is not None:
            blocked = blocked.repeat_interleave(self.self_attention.num_heads, dim=0)
        read, _ = self.self_attention(query, query, x, key_padding_mask=unused, attn_mask=blocked, need_weights=False)
        x = self.norm_self(x + self.dropout(read))
        read = self.cross_attention(x + position, on_levels(references, memory), memory)
        x = self.norm_cross(x + self.dropout(read))
        result: Tensor = self.norm_feed_forward(x + self.dropout(self.feed_forward(x)))
        return result


@dataclass(frozen=True)
class EntityStates:
    """Output of the entity decoder, by layer.

    features: (D, B, Q, C); sub_boxes, obj_boxes: (D, B, P, 4), with gradient to that layer only; starts: for each layer
    the references (sub, obj) its boxes were refined from, (B, P, 2 or 4), without gradient (the first: with).
    """

    features: Tensor
    sub_boxes: Tensor
    obj_boxes: Tensor
    starts: tuple[tuple[Tensor, Tensor], ...]


@dataclass(frozen=True)
class RelationStates:
    """Output of the relation decoder, by layer: features (D, B, P, C) and the moved references (D, B, P, 4)."""

    features: Tensor
    sub_references: Tensor
    obj_references: Tensor


class PairDecoder(nn.Module):
    """The parts of both decoders: layers, one subject and one object box head per layer, anchor positions."""

    def __init__(self, config: ModelConfig, first_size_bias: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        biases = [first_size_bias] + [0.0] * (config.decoder_layers - 1)
        self.sub_boxes = nn.ModuleList(BoxHead(config.width, bias) for bias in biases)
        self.obj_boxes = nn.ModuleList(BoxHead(config.width, bias) for bias in biases)
        self.anchor_position = AnchorPosition(config.width) if config.anchors == "boxes" else None

    def position_of(self, layer: int, references: Tensor, x: Tensor, learned: Tensor | None, memory: Memory) -> Tensor:
        """Return the queries' positions (B, Q, C): of their anchors, or the learned ones."""
        if self.anchor_position is not None:
            at_finest = on_levels(references, memory)[:, :, 0]
            position: Tensor = self.anchor_position(at_finest, x if layer > 0 else None)
            return position
        assert learned is not None
        return learned


class EntityDecoder(PairDecoder):
    """Parallel entity detection: one set of Q queries, all reading each other; boxes are refined layer by layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, first_size_bias=-2.0)

    def forward(
        self,
        content: Tensor,
        learned_position: Tensor | None,
        sub_reference: Tensor,
        obj_reference: Tensor,
        memory: Memory,
        unused: Tensor | None = None,
        blocked: Tensor | None = None,
    ) -> EntityStates:
        """Return features and boxes of all layers; content (B, Q, C), references (B, P, 2 or 4). RLIPv1, "Parallel entity detection".

        See `DecoderLayer` for the other arguments.
        """
        x, pairs = content, content.shape[1] // 2
        features, sub_boxes, obj_boxes, starts = [], [], [], []
        for index, layer in enumerate(self.layers):
            references = torch.cat([sub_reference, obj_reference], dim=1)
            position = self.position_of(index, references, x, learned_position, memory)
            x = layer(x, position, references, memory, unused, blocked)
            starts.append((sub_reference, obj_reference))
            features.append(x)
            sub_boxes.append(self.sub_boxes[index].refine(x[:, :pairs], sub_reference))  # type: ignore[operator]
            obj_boxes.append(self.obj_boxes[index].refine(x[:, pairs:], obj_reference))  # type: ignore[operator]
            sub_reference, obj_reference = sub_boxes[-1].detach(), obj_boxes[-1].detach()
        return EntityStates(torch.stack(features), torch.stack(sub_boxes), torch.stack(obj_boxes), tuple(starts))


class RelationDecoder(PairDecoder):
    """Sequential relation inference: one query per pair, reading around the mean of the subject and the object box.

    Its box heads move the references between layers. They give no output and receive no gradient: they keep what a
    detector left in them, or identity.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, first_size_bias=0.0)

    def forward(
        self,
        content: Tensor,
        learned_position: Tensor | None,
        sub_reference: Tensor,
        obj_reference: Tensor,
        memory: Memory,
        unused: Tensor | None = None,
    ) -> RelationStates:
        """Return features of all layers; content (B, P, C), references (B, P, 4). RLIPv1, "Sequential relation inference".

        See `DecoderLayer` for the other arguments.
        """
        x, features, moved = content, [], []
        for index, layer in enumerate(self.layers):
            references = (sub_reference + obj_reference) / 2
            position = self.position_of(index, references, x, learned_position, memory)
            x = layer(x, position, references, memory, unused)
            features.append(x)
            with torch.no_grad():
                sub_reference = self.sub_boxes[index].refine(x, sub_reference)  # type: ignore[operator]
                obj_reference = self.obj_boxes[index].refine(x, obj_reference)  # type: ignore[operator]
            moved.append(torch.stack([sub_reference, obj_reference]))
        return RelationStates(torch.stack(features), *torch.stack(moved, dim=1))


class MultiBranchFusion(nn.Module):
    """MBF: relu(sum over branches of W3 relu((W1 a + b1) * (W2 b + b2)) + b3); branches are the first axis of each weight."""

    def __init__(self, width: int, branches: int) -> None:
        super().__init__()
        inner = width // branches
        self.sub_weight = nn.Parameter(torch.empty(branches, inner, width))
        self.sub_bias = nn.Parameter(torch.empty(branches, inner))
        self.obj_weight = nn.Parameter(torch.empty(branches, inner, width))
        self.obj_bias = nn.Parameter(torch.empty(branches, inner))
        self.out_weight = nn.Parameter(torch.empty(branches, width, inner))
        self.out_bias = nn.Parameter(torch.empty(branches, width))
        for name, fan_in in (("sub", width), ("obj", width), ("out", inner)):
            for part in ("weight", "bias"):
                nn.init.uniform_(getattr(self, f"{name}_{part}"), -(fan_in**-0.5), fan_in**-0.5)

    def forward(self, sub: Tensor, obj: Tensor) -> Tensor:
        """Return relation queries (B, P, C) from subjects and objects (B, P, C); the multi-branch fusion of SCG."""
        a = nn.functional.linear(sub, self.sub_weight.flatten(0, 1), self.sub_bias.flatten())
        b = nn.functional.linear(obj, self.obj_weight.flatten(0, 1), self.obj_bias.flatten())
        weight = self.out_weight.transpose(0, 1).flatten(1)
        return nn.functional.linear((a * b).relu(), weight, self.out_bias.sum(0)).relu()
