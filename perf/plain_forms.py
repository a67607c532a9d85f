"""Forms of the published code in the places where this network does it otherwise, to compare with: same results, as context managers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from rlip_model import layers, losses
from rlip_model import model as rlip
from rlip_model.kernels import blocks, frozen_batch_norm
from rlip_model.vision import backbone


def sample_grid(values: Tensor, shapes: Sequence[tuple[int, int]], positions: Tensor, weights: Tensor) -> Tensor:
    """Same arguments and result as `deformable_attention.sample_bags`: one `grid_sample` a level."""
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
    """Deformable attention by `sample_grid`, and no image in blocks in the encoder."""
    with (
        patch.object(layers, "sample_bags", sample_grid),
        patch.object(blocks, "TOKENS_AT_ONCE", sys.maxsize),
    ):
        yield


@contextmanager
def plain_texts() -> Iterator[None]:
    """Texts padded to the longest through all layers of the text encoder."""

    def pooled_labels(text_encoder: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        result: Tensor = text_encoder(input_ids=input_ids, attention_mask=attention_mask).pooler_output
        return result

    with patch.object(rlip, "pooled_labels", pooled_labels):
        yield


@contextmanager
def plain_backbone() -> Iterator[None]:
    """Frozen batch normalisation as an operation of its own, and channels in the order in which images come."""

    def forward(self: frozen_batch_norm.FrozenConvolution, x: Tensor) -> Tensor:
        result: Tensor = self.activation(self.normalization(self.convolution(x)))
        return result

    with (
        patch.object(frozen_batch_norm.FrozenConvolution, "forward", forward),
        patch.object(backbone, "channels_innermost", lambda images: images),
    ):
        yield


@contextmanager
def plain_distances() -> Iterator[None]:
    """Distances of label vectors by `pairwise_distance`, which holds all their differences."""

    def label_distances(vectors: Tensor) -> Tensor:
        return F.pairwise_distance(vectors[:, None], vectors[None])

    with patch.object(losses, "label_distances", label_distances):
        yield


PLAIN: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "attention": plain_attention,
    "texts": plain_texts,
    "backbone": plain_backbone,
    "distances": plain_distances,
}


@contextmanager
def plain(parts: Collection[str] = tuple(PLAIN)) -> Iterator[None]:
    """Within it every network computes these parts in the plain form."""
    with ExitStack() as stack:
        for part in parts:
            stack.enter_context(PLAIN[part]())
        yield
