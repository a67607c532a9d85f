"""Work in blocks that stay in a CPU's cache, where no gradient is asked for; elsewhere everything at once.

Shape legend: B batch, S image tokens, H and W rows and columns of the image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TOKENS_AT_ONCE = 1024
"""Image tokens of one block."""

LARGE_IMAGE = 256 * 256
"""Pixels from which on the images of a batch are encoded one by one."""


def by_token_blocks(update: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Return `update(*inputs)` for inputs (B, S, ...) of which each token is updated alone: (B, S, C)."""
    count = inputs[0].shape[1]
    if count <= TOKENS_AT_ONCE or not _caches(inputs[0]):
        return update(*inputs)
    result = torch.empty_like(inputs[0])
    for start in range(0, count, TOKENS_AT_ONCE):
        block = (slice(None), slice(start, start + TOKENS_AT_ONCE))
        result[block] = update(*(values[block] for values in inputs))
    return result


def image_batches(images: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Split images (B, 3, H, W) and their padding (B, H, W) into the batches to encode at once."""
    if len(images) > 1 and images.shape[-2] * images.shape[-1] >= LARGE_IMAGE and _caches(images):
        return list(zip(torch.split(images, 1), torch.split(mask, 1), strict=True))
    return [(images, mask)]


def _caches(values: Tensor) -> bool:
    return values.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
