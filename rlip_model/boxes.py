"""Boxes: (cx, cy, w, h) as fractions of the image inside the network, (x0, y0, x1, y1) where areas matter.

Also for readers and evaluators, which need no torch: tensors are used by their methods alone. Overlaps whose float order is that of a
published evaluator are in `rlip_assets/evaluation/core/overlaps.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Box = tuple[float, float, float, float]


def iou(a: npt.ArrayLike, b: npt.ArrayLike, side: float = 0.0) -> npt.NDArray[Any]:
    """Return the intersection over union of broadcastable boxes (..., 4) x0, y0, x1, y1; (...), 0 where they do not overlap.

    Args:
        side: added to every width and height; 1 where coordinates are the numbers of the first and the last pixel.
    """
    a, b = np.asarray(a), np.asarray(b)
    shared = _area(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + side)
    union = _area(a[..., 2:] - a[..., :2] + side) + _area(b[..., 2:] - b[..., :2] + side) - shared
    return np.asarray(shared / np.where(union > 0, union, 1))


def _area(sides: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(np.clip(sides, 0, None).prod(-1))


def to_corners(boxes: Tensor) -> Tensor:
    """Return x0, y0, x1, y1 (..., 4) of centre and size (..., 4)."""
    signs = boxes.new_tensor([[-0.5], [0.5]])
    return (boxes[..., None, :2] + boxes[..., None, 2:] * signs).flatten(-2)


def to_pixels(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Return pixel corners of fractions.

    Args:
        boxes: (B, P, 4) centre and size, fractions.
        sizes: (B, 2) height and width of each original image in pixels.
    Returns:
        (B, P, 4) x0, y0, x1, y1 in pixels, not clamped.
    """
    return to_corners(boxes) * sizes.to(boxes.dtype)[:, None, [1, 0, 1, 0]]


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the generalised IoU of broadcastable boxes (..., 4) given as centre and size; (...) in [-1, 1].

    Two boxes without any area have IoU 0 and hull 0: their value is 0.
    """
    a_low, a_high = a[..., :2] - a[..., 2:] / 2, a[..., :2] + a[..., 2:] / 2
    b_low, b_high = b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2
    overlap = (a_high.minimum(b_high) - a_low.maximum(b_low)).clamp(min=0).prod(-1)
    union = (a_high - a_low).prod(-1) + (b_high - b_low).prod(-1) - overlap
    hull = (a_high.maximum(b_high) - a_low.minimum(b_low)).clamp(min=0).prod(-1)
    return overlap / _positive(union) - (hull - union) / _positive(hull)


def _positive(area: Tensor) -> Tensor:
    return area.where(area > 0, area.new_ones(()))


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Return ln(x / (1 - x)) with both parts at least `eps`."""
    x = x.clamp(0, 1)
    return (x.clamp(min=eps) / (1 - x).clamp(min=eps)).log()
