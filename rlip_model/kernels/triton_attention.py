"""The sampling of deformable attention as two Triton kernels, for CUDA devices.

One program takes a block of queries of one image and one head. It visits the points of its queries one after the other,
reads the four cells around each and adds them up in registers: neither the cells nor their shares are ever written to
memory. The backward pass visits the points again and adds the gradient of a cell with an atomic addition, so the order of
those additions, and with it the last digits of a gradient, differs between runs.

`TRITON_INTERPRET=1`, set before this module is imported, runs the kernels on the CPU for tests.

Shape legend: B batch, Q queries, S cells of all levels, L levels, K points, M heads, D channels per head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

QUERIES_AT_ONCE = 32
"""Queries of one program: with 32 channels per head, 1,024 sums in registers."""


@triton.jit
def _neighbours(position: tl.tensor, size: tl.tensor) -> tl.tensor:
    """Along one axis: the lower cell, the fraction past it, and whether it and the upper cell lie inside."""
    # Far outside points would overflow the integer type; two cells outside is as good as anywhere.
    near = tl.minimum(tl.maximum(position, -2.0), size + 1.0)
    floor = tl.floor(near)
    low = floor.to(tl.int32)
    return low, near - floor, (low >= 0) & (low < size), (low >= -1) & (low < size - 1)


@triton.jit
def _forward(
    values: tl.tensor,
    levels: tl.tensor,
    positions: tl.tensor,
    weights: tl.tensor,
    result: tl.tensor,
    cells: tl.tensor,
    queries: tl.tensor,
    HEADS: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    """result[b, q, m] = sum over points of weight x bilinear sample; contiguous tensors, see `sample_bags`."""
    image, head = (tl.program_id(1) // HEADS).to(tl.int64), tl.program_id(1) % HEADS
    query = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, CHANNELS)
    valid = query < queries
    row = image * queries + query
    table = values + image * cells * HEADS * WIDTH + head * WIDTH + channel[None, :]
    inside = (channel < WIDTH)[None, :]
    sums = tl.zeros([BLOCK, CHANNELS], dtype=result.dtype.element_ty)
    for point in range(LEVELS * POINTS):
        level = levels + point // POINTS * 3
        rows, columns, start = tl.load(level), tl.load(level + 1), tl.load(level + 2)
        place = positions + (row * 2 * HEADS + head) * (LEVELS * POINTS) + point
        x, right, in_left, in_right = _neighbours(tl.load(place, mask=valid, other=-2.0), columns)
        y, lower, in_top, in_bottom = _neighbours(
            tl.load(place + HEADS * LEVELS * POINTS, mask=valid, other=-2.0), rows
        )
        weight = tl.load(weights + (row * HEADS + head) * (LEVELS * POINTS) + point, mask=valid, other=0.0)
        for down in tl.static_range(2):
            for across in tl.static_range(2):
                known = (in_bottom if down else in_top) & (in_right if across else in_left) & valid
                share = weight * (lower if down else 1.0 - lower) * (right if across else 1.0 - right)
                cell = (start + (y + down) * columns + x + across) * (HEADS * WIDTH)
                read = tl.load(table + cell[:, None], mask=known[:, None] & inside, other=0.0)
                sums += share[:, None] * read.to(sums.dtype)
    target = result + (row[:, None] * HEADS + head) * WIDTH + channel[None, :]
    tl.store(target, sums, mask=valid[:, None] & inside)


@triton.jit
def _backward(
    values: tl.tensor,
    levels: tl.tensor,
    positions: tl.tensor,
    weights: tl.tensor,
    grad_result: tl.tensor,
    grad_values: tl.tensor,
    grad_positions: tl.tensor,
    grad_weights: tl.tensor,
    cells: tl.tensor,
    queries: tl.tensor,
    HEADS: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    """Gradients of all three inputs; `grad_values` comes as zeros and is added to."""
    image, head = (tl.program_id(1) // HEADS).to(tl.int64), tl.program_id(1) % HEADS
    query = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, CHANNELS)
    valid = query < queries
    row = image * queries + query
    offset = image * cells * HEADS * WIDTH + head * WIDTH + channel[None, :]
    inside = (channel < WIDTH)[None, :]
    source = grad_result + (row[:, None] * HEADS + head) * WIDTH + channel[None, :]
    upper = tl.load(source, mask=valid[:, None] & inside, other=0.0)
    for point in range(LEVELS * POINTS):
        level = levels + point // POINTS * 3
        rows, columns, start = tl.load(level), tl.load(level + 1), tl.load(level + 2)
        place = (row * 2 * HEADS + head) * (LEVELS * POINTS) + point
        other = place + HEADS * LEVELS * POINTS
        own = (row * HEADS + head) * (LEVELS * POINTS) + point
        x, right, in_left, in_right = _neighbours(tl.load(positions + place, mask=valid, other=-2.0), columns)
        y, lower, in_top, in_bottom = _neighbours(tl.load(positions + other, mask=valid, other=-2.0), rows)
        weight = tl.load(weights + own, mask=valid, other=0.0)
        along_x = tl.zeros([BLOCK], dtype=upper.dtype)
        along_y = tl.zeros([BLOCK], dtype=upper.dtype)
        sample = tl.zeros([BLOCK], dtype=upper.dtype)
        for down in tl.static_range(2):
            for across in tl.static_range(2):
                known = (in_bottom if down else in_top) & (in_right if across else in_left) & valid
                part_x = right if across else 1.0 - right
                part_y = lower if down else 1.0 - lower
                cell = offset + ((start + (y + down) * columns + x + across) * (HEADS * WIDTH))[:, None]
                mask = known[:, None] & inside
                read = tl.load(values + cell, mask=mask, other=0.0).to(upper.dtype)
                product = tl.sum(upper * read, axis=1)
                sample += product * part_x * part_y
                along_x += product * part_y * (1.0 if across else -1.0)
                along_y += product * part_x * (1.0 if down else -1.0)
                tl.atomic_add(grad_values + cell, upper * (weight * part_x * part_y)[:, None], mask=mask)
        tl.store(grad_positions + place, weight * along_x, mask=valid)
        tl.store(grad_positions + other, weight * along_y, mask=valid)
        tl.store(grad_weights + own, sample, mask=valid)


class _Bags(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, positions: Tensor, weights: Tensor, levels: Tensor) -> Tensor:
        values, positions, weights = values.contiguous(), positions.contiguous(), weights.contiguous()
        ctx.save_for_backward(values, positions, weights, levels)
        batch, cells, heads, width = values.shape
        count = positions.shape[1]
        result = positions.new_empty(batch, count, heads * width)
        _forward[_grid(values, positions)](
            values, levels, positions, weights, result, cells, count, **_sizes(values, weights, levels)
        )
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        values, positions, weights, levels = ctx.saved_tensors
        grad_values = torch.zeros_like(values, dtype=positions.dtype)
        grad_positions, grad_weights = torch.empty_like(positions), torch.empty_like(weights)
        _backward[_grid(values, positions)](
            values,
            levels,
            positions,
            weights,
            grad.contiguous(),
            grad_values,
            grad_positions,
            grad_weights,
            values.shape[1],
            positions.shape[1],
            **_sizes(values, weights, levels),
        )
        return grad_values.to(values.dtype), grad_positions, grad_weights, None


def _grid(values: Tensor, positions: Tensor) -> tuple[int, int]:
    batch, count = positions.shape[:2]
    return triton.cdiv(count, QUERIES_AT_ONCE), batch * values.shape[2]


def _sizes(values: Tensor, weights: Tensor, levels: Tensor) -> dict[str, int]:
    heads, width = values.shape[2:]
    return {
        "HEADS": heads,
        "LEVELS": len(levels),
        "POINTS": weights.shape[-1] // len(levels),
        "WIDTH": width,
        "BLOCK": QUERIES_AT_ONCE,
        "CHANNELS": triton.next_power_of_2(width),
    }


def sample_bags(values: Tensor, shapes: Sequence[tuple[int, int]], positions: Tensor, weights: Tensor) -> Tensor:
    """Return the same as `rlip_model.kernels.deformable_attention.sample_bags`; `values` may be of lower precision."""
    rows, first = [], 0
    for height, width in shapes:
        rows.append((height, width, first))
        first += height * width
    levels = torch.tensor(rows, dtype=torch.int32).to(values.device, non_blocking=True)  # the host need not wait
    precise = torch.promote_types(positions.dtype, torch.float32)
    bags: Any = _Bags
    result: Tensor = bags.apply(values, positions.to(precise), weights.to(precise), levels)
    return result.to(positions.dtype)
