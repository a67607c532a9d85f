"""Small parts that encoder and decoders share: feed-forward, box heads, sine codes, deformable and dense attention to the image.

Shape legend: B batch, Q queries, S image tokens of all levels, L levels, K points, M heads, C channels, D = C / M.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlip_model.boxes import inverse_sigmoid
from rlip_model.config import ModelConfig
from rlip_model.kernels.deformable_attention import sample_bags, short_softmax


class Mlp(nn.Module):
    """Linear layers with ReLU in between: (..., first size) -> (..., last size)."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        result: Tensor = self.layers[-1](x)
        return result


class FeedForward(nn.Module):
    """Linear, ReLU, dropout, linear: (..., C) -> (..., C)."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Linear(width, inner)
        self.second = nn.Linear(inner, width)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.first, self.second):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.second(self.dropout(self.first(x).relu()))
        return result


class BoxHead(Mlp):
    """Predicts a box as a change of the reference it starts from; starts as no change."""

    def __init__(self, width: int, size_bias: float = 0.0) -> None:
        super().__init__((width, width, width, 4))
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        with torch.no_grad():
            last.bias[2:] = size_bias
            for layer in self.layers[:-1]:
                layer.get_parameter("weight").div_(
                    3**0.5
                )  # PyTorch's default range for a square layer, as published, from Xavier's

    def refine(self, features: Tensor, reference: Tensor) -> Tensor:
        """Return boxes (..., 4) from features (..., C) and references: boxes (..., 4), points (..., 2), which move the centre alone, or
        none (..., 0).

        Deformable DETR, "Iterative bounding box refinement".
        """
        change: Tensor = self(features)
        start = inverse_sigmoid(reference)
        moved = start.shape[-1]
        if moved < 4:
            return torch.cat([change[..., :moved] + start, change[..., moved:]], dim=-1).sigmoid()
        return (change + start).sigmoid()


@dataclass(frozen=True)
class Memory:
    """The memory of queries: tokens (B, S, C), padding (B, S), True = padding, and rows and columns of each level.

    With joint fusion the labels' rows follow the image tokens, and masked labels count as padding.
    """

    tokens: Tensor
    padding: Tensor
    shapes: tuple[tuple[int, int], ...]
    valid_ratios: Tensor
    """(B, L, 2): unpadded part of width and height."""
    position: Tensor | None = None
    """(B, S, C): position code of the tokens, which dense attention reads."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The fields that have a row per image."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}


class DeformableAttention(nn.Module):
    """Multi-scale deformable attention: each query and head reads K points per level (Deformable DETR, section 4.1)."""

    def __init__(self, width: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.width, self.heads, self.levels, self.points = width, heads, levels, points
        samples = heads * levels * points
        self.offsets = nn.Linear(width, samples * 2)
        self.weights = nn.Linear(width, samples)
        self.values = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start point k of head m k + 1 steps in direction 2 pi m / M, scaled to the unit square's border."""
        angles = torch.arange(self.heads, dtype=torch.float32) * (2 * math.pi / self.heads)
        directions = torch.stack([angles.cos(), angles.sin()], -1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1, dtype=torch.float32)
        start = directions[:, None, None, :] * steps[None, None, :, None]
        with torch.no_grad():
            self.offsets.weight.zero_()
            self.offsets.bias.copy_(start.expand(-1, self.levels, -1, -1).reshape(-1))
            self.weights.weight.zero_()
            self.weights.bias.zero_()
        for layer in (self.values, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, queries: Tensor, references: Tensor, memory: Memory, values: Tensor | None = None) -> Tensor:
        """Return what each query reads, (B, Q, C); equation 3 of Deformable DETR.

        Args:
            queries: (B, Q, C), position code included.
            references: (B, Q, L, 2) points or (B, Q, L, 4) boxes (centre and size), fractions of the padded map.
            memory: the tokens to read; projected values of padded tokens count as zero.
            values: `project(memory)`, from a caller that reads the same memory more than once.
        """
        batch, count, _ = queries.shape
        if values is None:
            values = self.project(memory)
        weights = short_softmax(self.weights(queries).view(batch, count, self.heads, self.levels * self.points))
        positions = self._positions(queries, references, memory.shapes)
        result: Tensor = self.output(sample_bags(values, memory.shapes, positions, weights))
        return result

    def project(self, memory: Memory) -> Tensor:
        """Return the values that queries read: (B, S, M, D), zero where the memory is padding."""
        values: Tensor = self.values(memory.tokens).masked_fill(memory.padding[..., None], 0.0)
        return torch.unflatten(values, -1, (self.heads, -1))

    def _positions(self, queries: Tensor, references: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
        """Sampling positions in cells, (B, Q, 2, M, L * K): x and y planes apart, which keeps arithmetic contiguous.

        A unit of offset is one cell from a point, and half the box's size divided by K from a box's centre.
        """
        batch, count, _ = queries.shape
        planes = (self.heads, self.levels, self.points, 2)
        weight = self.offsets.weight.view(*planes, -1).permute(3, 0, 1, 2, 4).reshape(-1, self.width)
        bias = self.offsets.bias.view(planes).permute(3, 0, 1, 2).reshape(-1)
        offsets = F.linear(queries, weight, bias).view(batch, count, 2, self.heads, self.levels * self.points)
        sizes = references.new_tensor([[width, height] for height, width in shapes])
        start = self._by_point(references[..., :2] * sizes - 0.5)
        if references.shape[-1] == 2:
            return start + offsets
        return start + offsets * self._by_point(references[..., 2:] * sizes * (0.5 / self.points))

    def _by_point(self, values: Tensor) -> Tensor:
        """(B, Q, L, 2) -> (B, Q, 2, 1, L * K)."""
        return values.transpose(2, 3).repeat_interleave(self.points, dim=-1)[:, :, :, None]


class DenseAttention(nn.MultiheadAttention):
    """Attention to every token of the memory, called as `DeformableAttention` is (DETR); padding is no key."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__(width, heads, dropout, batch_first=True)
        nn.init.xavier_uniform_(self.out_proj.weight)

    def project(self, memory: Memory) -> None:
        """Return nothing: keys and values are projected with the queries."""

    def forward(  # type: ignore[override]
        self, queries: Tensor, references: Tensor, memory: Memory, values: None = None
    ) -> Tensor:
        """Return what each query reads, (B, Q, C), of queries (B, Q, C), position code included; references are not used."""
        assert memory.position is not None
        keys = memory.tokens + memory.position
        read, _ = super().forward(queries, keys, memory.tokens, key_padding_mask=memory.padding, need_weights=False)
        return read


def image_attention(config: ModelConfig, points: int) -> DeformableAttention | DenseAttention:
    """Return the attention to the image that a configuration asks for; `points` are those of deformable attention."""
    if config.is_dense:
        return DenseAttention(config.width, config.heads, config.dropout)
    return DeformableAttention(config.width, config.heads, config.levels, points)


def sine_code(angles: Tensor, channels: int) -> Tensor:
    """Return sines (even channels) and cosines (odd) of angles (...) / 10000^(2 floor(k / 2) / channels), k = 0 .. channels - 1.

    Returns:
        (..., channels)
    """
    # No power is taken on the device: a GPU rounds it otherwise, and with a Swin backbone rows of nothing but padding have angles of
    # -3e6, where one unit in the last place of a divisor makes another sine.
    divisors = torch.tensor([10000.0 ** (2 * (k // 2) / channels) for k in range(channels)], dtype=angles.dtype)
    scaled = angles[..., None] / divisors.to(angles.device, non_blocking=True)
    return torch.stack([scaled[..., 0::2].sin(), scaled[..., 1::2].cos()], dim=-1).flatten(-2)


def on_levels(references: Tensor, memory: Memory) -> Tensor:
    """Return fractions of each padded level (B, Q, L, 0, 2 or 4) of fractions of the unpadded image (B, Q, 0, 2 or 4)."""
    ratios = memory.valid_ratios.repeat(1, 1, references.shape[-1] // 2)
    return references[:, :, None] * ratios[:, None]
