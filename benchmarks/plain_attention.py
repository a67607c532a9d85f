"""The usual formulation of multi-scale deformable attention, to compare with: one `grid_sample` a level, all tokens of an image at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from rlip_model import deformable_attention, encoder


def sample_grid(values: Tensor, shapes: Sequence[tuple[int, int]], positions: Tensor, weights: Tensor) -> Tensor:
    """Same arguments and result as `deformable_attention.sample_bags`."""
    batch, _, heads, width = values.shape
    points = weights.shape[-1] // len(shapes)
    weight = weights.transpose(1, 2).flatten(0, 1)[:, None]  # (B M, 1, Q, L K)
    place = positions.permute(0, 3, 1, 4, 2).flatten(0, 1)  # (B M, Q, L K, 2)
    sampled, first = [], 0
    for level, (rows, columns) in enumerate(shapes):
        cells = (
            values[:, first : first + rows * columns].permute(0, 2, 3, 1).reshape(batch * heads, width, rows, columns)
        )
        size = place.new_tensor([columns, rows])
        grid = (2 * place[:, :, level * points : (level + 1) * points] + 1) / size - 1
        sampled.append(F.grid_sample(cells, grid, align_corners=False))
        first += rows * columns
    total = (torch.cat(sampled, -1) * weight).sum(-1)  # (B M, D, Q)
    return total.view(batch, heads * width, -1).transpose(1, 2)


@contextmanager
def plain_attention() -> Iterator[None]:
    """Within it every network reads by `sample_grid`, and its encoder takes no image in blocks."""
    with (
        patch.object(deformable_attention, "sample_bags", sample_grid),
        patch.object(encoder, "TOKENS_AT_ONCE", sys.maxsize),
    ):
        yield
