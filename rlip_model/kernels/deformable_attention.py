"""The sampling of deformable attention in stock PyTorch; on a CUDA device with Triton, `triton_attention` does it.

Bilinear sampling is a weighted sum of at most four cells per point. All points of one query and head are one *bag* of
cells, so the whole operation is one `F.embedding_bag` with per-sample weights. On small maps its backward pass scatters
the weights into dense query x cell matrices, a few images at a time so that they stay in cache: matrix products are much
cheaper there than the sort that `embedding_bag` needs for its gradient.

Shape legend: B batch, Q queries, S cells of all levels, L levels, K points, M heads, D channels per head,
N = 4 L K cells of one bag.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

DENSE_CELLS = 1024
"""Largest S for which the backward pass on a CPU uses dense matrices."""

REGISTER = 16
"""Numbers in a vector register, float32."""

DENSE_BLOCK = 1 << 19
"""Elements of the dense matrices held at once: about 2 MB."""

WARP = 32
"""Threads of a GPU that go together; the channels of a sample fill whole warps."""

BAG_THREADS = 1 << 30
"""Most GPU threads, one per sample and channel, of one `embedding_bag`. Its backward pass counts them in 32 bits: past 2^31, as
with eight images of 800 x 1333, it reads outside its arrays, after which the process can use the device no more."""


def short_softmax(logits: Tensor) -> Tensor:
    """Return the softmax over the last dimension; on a CPU, one shorter than a vector register goes first, several times faster."""
    if logits.device.type != "cpu" or logits.shape[-1] >= REGISTER:
        return logits.softmax(-1)
    return logits.flatten(0, -2).t().softmax(0).t().view(logits.shape)


TRITON = find_spec("triton") is not None


def has_kernels(device: torch.device) -> bool:
    """Return True where Triton kernels do the sampling: on CUDA devices with Triton, which every CUDA build of torch brings."""
    return TRITON and device.type == "cuda"


def sample_bags(values: Tensor, shapes: Sequence[tuple[int, int]], positions: Tensor, weights: Tensor) -> Tensor:
    """Return weighted bilinear samples, zero outside a map, summed over levels and points.

    Args:
        values: (B, S, M, D), levels one after the other, rows of cells within.
        shapes: rows and columns of each level.
        positions: (B, Q, 2, M, L * K), x and y in cells of the point's level: 0 is the middle of the first cell.
        weights: (B, Q, M, L * K).
    Returns:
        (B, Q, M * D)
    """
    if has_kernels(values.device):
        from rlip_model.kernels import triton_attention

        return triton_attention.sample_bags(values, shapes, positions, weights)
    cells, shares = _corners(shapes, positions, weights)
    # Under bf16 autocast the projections come in bf16; places and sums stay in the precision of the references.
    values = values.to(shares.dtype)
    if not torch.is_grad_enabled() or values.device.type != "cpu":
        return _bag_sums(cells, shares, values)
    if values.shape[1] <= DENSE_CELLS:
        bags: Any = _SmallMapBags
        small: Tensor = bags.apply(cells, shares, values)
        return small
    sums = _bag_sums(cells, shares, values.detach())
    first = cells[..., : weights.shape[-1]]
    gradient: Any = _ValuesGradient
    result: Tensor = gradient.apply(sums, values, first, shares.detach(), shapes)
    return result


def _bag_sums(cells: Tensor, shares: Tensor, values: Tensor) -> Tensor:
    """cells and shares (B, Q, M, N), values (B, S, M, D) -> (B, Q, M * D)."""
    batch, count, _, samples = cells.shape
    table, rows = values.flatten(0, 2), _rows(cells, values.shape[1]).view(-1, samples)
    step = max(1, BAG_THREADS // (samples * WARP * -(-values.shape[-1] // WARP)))
    parts = zip(rows.split(step), shares.view(-1, samples).split(step), strict=True)
    sums = [F.embedding_bag(part, table, per_sample_weights=share, mode="sum") for part, share in parts]
    return (sums[0] if len(sums) == 1 else torch.cat(sums)).view(batch, count, -1)


def _rows(cells: Tensor, size: int) -> Tensor:
    """Cells (B, Q, M, ...) of maps with S = `size` -> rows of the table (B S M, D), in the same shape."""
    batch, _, heads, _ = cells.shape
    image = torch.arange(batch, device=cells.device, dtype=cells.dtype).view(-1, 1, 1, 1) * (size * heads)
    head = torch.arange(heads, device=cells.device, dtype=cells.dtype).view(-1, 1)
    return cells * heads + (image + head)


class _ValuesGradient(torch.autograd.Function):
    """Passes bag sums through; its backward pass finds the gradient of the values, which takes `embedding_bag` much longer.

    With the points sorted by their first corner, what one cell receives is a bag as well: of the gradients of the queries that
    read it. There is one such sum for each corner, and it belongs to the cell as many steps after the first.
    """

    @staticmethod
    def forward(
        ctx: Any, sums: Tensor, values: Tensor, first: Tensor, shares: Tensor, shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        ctx.save_for_backward(first, shares)
        ctx.size, ctx.shapes = values.shape[1], shapes
        return sums.view_as(sums)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        first, shares = ctx.saved_tensors
        batch, _, heads, points = first.shape
        rows, order = _rows(first, ctx.size).flatten().sort(stable=True)
        counts = torch.bincount(rows, minlength=batch * ctx.size * heads)
        bags = {"input": order // points, "offsets": counts.cumsum(0) - counts, "mode": "sum"}
        table = grad.reshape(first.shape[:3].numel(), -1)
        result = grad.new_zeros(batch, ctx.size, heads, table.shape[1])
        for corner, share in enumerate(torch.unflatten(shares, -1, (4, points)).unbind(-2)):
            part = F.embedding_bag(weight=table, per_sample_weights=share.flatten()[order], **bags).view_as(result)
            start = 0
            for height, width in ctx.shapes:
                end, step = start + height * width, (0, 1, width, width + 1)[corner]
                # Shares of corners outside the map are 0, and so is all that is cut off here.
                result[:, start + step : end] += part[:, start : max(start, end - step)]
                start = end
        return grad, result, None, None, None


class _SmallMapBags(torch.autograd.Function):
    """`_bag_sums` with a dense backward pass."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, shares: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(cells, shares, values)
        return _bag_sums(cells, shares, values)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        cells, shares, values = ctx.saved_tensors
        batch, count, heads, _ = cells.shape
        size = values.shape[1]
        grad = grad.view(batch, count, heads, -1)
        grad_shares, grad_values = torch.empty_like(shares), torch.empty_like(values)
        step = max(1, DENSE_BLOCK // (count * heads * size))
        for first in range(0, batch, step):
            chunk = slice(first, first + step)
            # All below is (image and head, Q or S, ...), so that matrix products need no copies of the dense matrix.
            index = cells[chunk].transpose(1, 2).flatten(0, 1).long()
            upper = grad[chunk].transpose(1, 2).flatten(0, 1)
            table = values[chunk].transpose(1, 2).flatten(0, 1)
            dense = shares.new_zeros(len(index), count, size)
            dense.scatter_add_(2, index, shares[chunk].transpose(1, 2).flatten(0, 1))
            lower = torch.bmm(dense.transpose(1, 2), upper)
            grad_values[chunk] = torch.unflatten(lower, 0, (-1, heads)).transpose(1, 2)
            torch.bmm(upper, table.transpose(1, 2), out=dense)
            grad_shares[chunk] = torch.unflatten(dense.gather(2, index), 0, (-1, heads)).transpose(1, 2)
        return None, grad_shares, grad_values


def _corners(shapes: Sequence[tuple[int, int]], positions: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The four cells around each point and their shares.

    Returns:
        cells: (B, Q, M, N) int32, cell number in 0..S-1: first all upper left cells, then the upper right, lower left and lower right;
        shares: (B, Q, M, N), bilinear part times attention weight, 0 where the cell lies outside.
    """
    heads, samples = weights.shape[-2:]
    sizes = torch.tensor(shapes, device=positions.device, dtype=torch.int32)
    ends = (sizes[:, 0] * sizes[:, 1]).cumsum(0, dtype=torch.int32)
    # One full row per head and point: broadcasting over short inner dimensions would cost more than the arithmetic.
    table = torch.stack([sizes[:, 0], sizes[:, 1], ends - sizes[:, 0] * sizes[:, 1]])
    rows, columns, start = (
        table.repeat_interleave(samples // len(shapes), 1)[:, None].expand(-1, heads, -1).reshape(3, -1)
    )
    flat = positions.flatten(3)
    column, left, right = _neighbours(flat[:, :, 0], columns)
    row, top, bottom = _neighbours(flat[:, :, 1], rows)
    weight = weights.flatten(2)
    top, bottom = top * weight, bottom * weight
    upper = row * columns + (column + start)
    lower = upper + columns

    def bags(parts: list[Tensor]) -> Tensor:
        return torch.stack([torch.unflatten(part, -1, (heads, samples)) for part in parts], dim=3).flatten(3)

    cells = bags([upper, upper + 1, lower, lower + 1]).clamp_(max=sum(height * width for height, width in shapes) - 1)
    return cells, bags([top * left, top * right, bottom * left, bottom * right])


def _neighbours(position: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis: a cell in 0..size-1, its linear share and that of the next cell; shares outside the map are 0.

    Within the last step before the map the next cell would be cell 0: there cell 0 is the one that is given.
    """
    with torch.no_grad():
        # Far outside points would overflow the integer type; two cells outside is as good as anywhere.
        floor = torch.minimum(position.floor().clamp(min=-2), size.to(position.dtype))
        low = floor.to(torch.int32)
        cell = torch.minimum(low.clamp(min=0), size - 1)
        is_low = (low == cell).to(position.dtype)
        slope = (low == -1).to(position.dtype) - is_low
        has_next = ((low >= 0) & (low < size - 1)).to(position.dtype)
    fraction = position - floor
    return cell, is_low + fraction * slope, fraction * has_next
