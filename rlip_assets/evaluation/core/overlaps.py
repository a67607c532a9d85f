"""Box overlap as the relation evaluators define it. All boxes are xyxy; sides count pixels, so a side is `x2 - x1 + 1`.

Boxes are held as four arrays (`Columns`), one a coordinate, because the evaluators gather and combine millions of them.
The order of operations is that of the published evaluators: in float32 another order can move an overlap across 0.5.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]


class Columns(NamedTuple):
    """n boxes as four arrays of n coordinates."""

    x1: Array
    y1: Array
    x2: Array
    y2: Array

    def take(self, rows: npt.NDArray[Any]) -> Columns:
        """The boxes of some rows."""
        return Columns(*(column[rows] for column in self))

    def double(self) -> Columns:
        """The boxes in float64."""
        return Columns(*(column.astype(np.float64) for column in self))


def columns_of(boxes: Array) -> Columns:
    """(n, 4) boxes as columns."""
    return Columns(*(np.ascontiguousarray(boxes[:, i]) for i in range(4)))


def areas(boxes: Columns) -> Array:
    """Areas in pixels, +1 convention; negative for boxes turned inside out in one direction."""
    return (boxes.x2 - boxes.x1 + 1) * (boxes.y2 - boxes.y1 + 1)


def union_boxes(a: Columns, b: Columns) -> Columns:
    """The smallest boxes around both, row by row."""
    return Columns(np.minimum(a.x1, b.x1), np.minimum(a.y1, b.y1), np.maximum(a.x2, b.x2), np.maximum(a.y2, b.y2))


def plain_iou(a: Columns, b: Columns, area_a: Array | None = None, area_b: Array | None = None) -> Array:
    """Intersection over union, row by row. Boxes that touch in an edge overlap; a zero-area box equals itself.

    Args:
        area_a, area_b: their areas, where they are at hand.
    """
    area_a = areas(a) if area_a is None else area_a
    area_b = areas(b) if area_b is None else area_b
    width = np.minimum(a.x2, b.x2) - np.maximum(a.x1, b.x1) + 1
    height = np.minimum(a.y2, b.y2) - np.maximum(a.y1, b.y1) + 1
    inter = np.maximum(width, 0) * np.maximum(height, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        iou: Array = inter / (area_a + area_b - inter)
    return iou


def strict_iou(a: Columns, b: Columns) -> Array:
    """Intersection over union, row by row, but 0 unless the common area has width and height before the +1.

    Hence boxes that share only an edge give 0, and so does a zero-width box against itself.
    """
    left, top = np.maximum(a.x1, b.x1), np.maximum(a.y1, b.y1)
    right, bottom = np.minimum(a.x2, b.x2), np.minimum(a.y2, b.y2)
    inter = (right - left + 1) * (bottom - top + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        iou: Array = inter / (areas(a) + areas(b) - inter)
    iou[(left >= right) | (top >= bottom)] = 0
    return iou
