"""Multi-scale deformable attention in stock PyTorch.

Bilinear sampling is a weighted sum of at most four cells a point. All points of one query and head are one *bag* of
cells, so the whole operation is one `F.embedding_bag` with per-sample weights. Where a gradient is wanted and the map is
small, the weights are scattered into a dense query x cell matrix instead: two batched matrix products, and a
much cheaper backward pass on a CPU.

Shape legend: B batch, Q queries, S cells of all levels, L levels, K points, M heads, D channels a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DENSE_CELLS = 1024
"""Largest S for which training uses the dense form."""


@dataclass(frozen=True)
class Memory:
    """What queries attend to: the tokens (B, S, C), their padding (B, S) (True = padding) and the shapes of the levels."""

    tokens: Tensor
    padding: Tensor
    shapes: tuple[tuple[int, int], ...]
    valid_ratios: Tensor
    """(B, L, 2): unpadded part of width and height."""


class DeformableAttention(nn.Module):
    """Each query and head reads K points a level around its reference (Deformable DETR, section 4.1)."""

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
        """Point k of head m starts k + 1 steps in direction 2 pi m / M, scaled to the unit square's border."""
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

    def forward(self, queries: Tensor, references: Tensor, memory: Memory) -> Tensor:
        """
        Args:
            queries: (B, Q, C), position code included.
            references: (B, Q, L, 2) points or (B, Q, L, 4) boxes (centre and size), fractions of the padded map.
            memory: the tokens to read; projected values of padded tokens count as zero.
        Returns:
            (B, Q, C)
        """
        batch, count, _ = queries.shape
        values = self.values(memory.tokens).masked_fill(memory.padding[..., None], 0.0)
        values = values.view(batch, -1, self.heads, self.width // self.heads)
        offsets = self._plane_offsets(queries)
        weights = self.weights(queries).view(batch, count, self.heads, self.levels * self.points)
        weights = weights.softmax(-1).view(batch, count, self.heads, self.levels, self.points)
        scale = _offset_scale(references, memory.shapes, self.points)
        centres = references[..., :2].permute(0, 1, 3, 2)[:, :, :, None, :, None]
        locations = centres + offsets * scale
        return self.output(sample_levels(values, memory.shapes, locations, weights))

    def _plane_offsets(self, queries: Tensor) -> Tensor:
        """Offsets as (B, Q, 2, M, L, K): x and y planes apart, which keeps the arithmetic below contiguous."""
        batch, count, _ = queries.shape
        shape = (self.heads, self.levels, self.points, 2)
        weight = self.offsets.weight.view(*shape, -1).permute(3, 0, 1, 2, 4).reshape(-1, self.width)
        bias = self.offsets.bias.view(shape).permute(3, 0, 1, 2).reshape(-1)
        return F.linear(queries, weight, bias).view(batch, count, 2, *shape[:3])


def _offset_scale(references: Tensor, shapes: Sequence[tuple[int, int]], points: int) -> Tensor:
    """Length of one offset step, broadcastable to (B, Q, 2, M, L, K): a cell for points, half the box over K for boxes."""
    if references.shape[-1] == 2:
        size = references.new_tensor([[width, height] for height, width in shapes])
        return (1.0 / size).t()[None, None, :, None, :, None]
    return (references[..., 2:] * (0.5 / points)).permute(0, 1, 3, 2)[:, :, :, None, :, None]


def sample_levels(values: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted bilinear samples, zero outside a map, summed over levels and points.

    Args:
        values: (B, S, M, D).
        shapes: rows and columns of each level.
        locations: (B, Q, 2, M, L, K), x and y in 0..1.
        weights: (B, Q, M, L, K).
    Returns:
        (B, Q, M * D)
    """
    batch, cells, heads, depth = values.shape
    count = locations.shape[1]
    index, share = _corners(shapes, locations, weights)
    if torch.is_grad_enabled() and cells <= DENSE_CELLS:
        index = index.permute(0, 3, 1, 2, 4, 5).reshape(batch, heads, count, -1)
        share = share.permute(0, 3, 1, 2, 4, 5).reshape(batch, heads, count, -1)
        attention = share.new_zeros(batch, heads, count, cells).scatter_add(3, index.long(), share)
        return torch.matmul(attention, values.transpose(1, 2)).transpose(1, 2).reshape(batch, count, -1)
    image = torch.arange(batch, device=index.device, dtype=index.dtype).view(-1, 1, 1, 1, 1, 1) * (cells * heads)
    head = torch.arange(heads, device=index.device, dtype=index.dtype).view(-1, 1, 1)
    rows = (index * heads + image + head).transpose(2, 3).reshape(batch * count * heads, -1)
    share = share.transpose(2, 3).reshape(batch * count * heads, -1)
    table = values.reshape(batch * cells * heads, depth)
    return F.embedding_bag(rows, table, per_sample_weights=share, mode="sum").view(batch, count, -1)


def _corners(shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The four cells around each point and their shares.

    Returns:
        index: (B, Q, 4, M, L, K) int32, cell number in 0..S-1 (clamped into the map);
        share: same shape, bilinear part times attention weight, 0 where the cell lies outside.
    """
    sizes = torch.tensor(shapes, device=locations.device, dtype=torch.int32)
    rows, columns = sizes[:, 0, None], sizes[:, 1, None]
    starts = (rows * columns).cumsum(0, dtype=torch.int32) - rows * columns
    x, x_low, x_high, x_in_low, x_in_high = _neighbours(locations[:, :, 0], columns)
    y, y_low, y_high, y_in_low, y_in_high = _neighbours(locations[:, :, 1], rows)
    left, right = (1 - x) * x_in_low, x * x_in_high
    top, bottom = (1 - y) * y_in_low * weights, y * y_in_high * weights
    upper, lower = y_low * columns + starts, y_high * columns + starts
    index = torch.stack([upper + x_low, upper + x_high, lower + x_low, lower + x_high], dim=2)
    share = torch.stack([top * left, top * right, bottom * left, bottom * right], dim=2)
    return index, share


def _neighbours(location: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Along one axis: fraction past the lower cell, clamped lower and upper cell, and whether each lies inside (0 or 1)."""
    position = location * size.to(location.dtype) - 0.5
    with torch.no_grad():
        # Far outside points would overflow the integer type; two cells outside is as good as anywhere.
        floor = torch.minimum(position.floor().clamp(min=-2), (size + 1).to(position.dtype))
        low = floor.to(torch.int32)
        in_low = ((low >= 0) & (low < size)).to(position.dtype)
        in_high = ((low >= -1) & (low < size - 1)).to(position.dtype)
        clamped_low = torch.minimum(low.clamp(min=0), size - 1)
        clamped_high = torch.minimum((low + 1).clamp(min=0), size - 1)
    return position - floor, clamped_low, clamped_high, in_low, in_high
