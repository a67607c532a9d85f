"""Boxes: (cx, cy, w, h) as fractions of the image inside the network, (x0, y0, x1, y1) where areas matter."""

from __future__ import annotations

import torch
from torch import Tensor


def to_corners(boxes: Tensor) -> Tensor:
    """(..., 4) centre and size -> (..., 4) x0, y0, x1, y1."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def to_centres(boxes: Tensor) -> Tensor:
    """(..., 4) x0, y0, x1, y1 -> (..., 4) centre and size."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def to_pixels(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Fractions to pixel corners.

    Args:
        boxes: (B, P, 4) centre and size, fractions.
        sizes: (B, 2) height and width of each original image in pixels.
    Returns:
        (B, P, 4) x0, y0, x1, y1 in pixels, not clamped.
    """
    height, width = sizes.to(boxes.dtype).unbind(-1)
    return to_corners(boxes) * torch.stack([width, height, width, height], dim=-1)[:, None]


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU of broadcastable boxes (..., 4) given as centre and size; (...) in [-1, 1].

    Two boxes without any area have IoU 0 and hull 0: their value is 0.
    """
    a_low, a_high = a[..., :2] - a[..., 2:] / 2, a[..., :2] + a[..., 2:] / 2
    b_low, b_high = b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2
    overlap = (torch.minimum(a_high, b_high) - torch.maximum(a_low, b_low)).clamp(min=0).prod(-1)
    union = (a_high - a_low).prod(-1) + (b_high - b_low).prod(-1) - overlap
    hull = (torch.maximum(a_high, b_high) - torch.minimum(a_low, b_low)).clamp(min=0).prod(-1)
    return overlap / _positive(union) - (hull - union) / _positive(hull)


def _positive(area: Tensor) -> Tensor:
    return torch.where(area > 0, area, torch.ones_like(area))


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """ln(x / (1 - x)) with both parts at least `eps`."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))
