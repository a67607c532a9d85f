"""Overlap of two pixel boxes with the +1 convention, in the arithmetic of the boxes (float32 in, float32 out)."""

import numpy as np

Box = np.ndarray  # (4,): x1, y1, x2, y2


def _width(box: Box) -> np.floating:
    return box[2] - box[0] + 1


def _height(box: Box) -> np.floating:
    return box[3] - box[1] + 1


def _ratio(intersection: np.floating, a: Box, b: Box) -> np.floating:
    with np.errstate(divide="ignore", invalid="ignore"):
        return intersection / (_width(a) * _height(a) + _width(b) * _height(b) - intersection)


def plain_iou(a: Box, b: Box) -> np.floating:
    """Sides of the intersection count their last pixel and are clamped at 0: boxes that share an edge overlap,
    a zero-area box matches itself. Used by both suppressions, by the Matlab, the official V-COCO and the
    per-predicate protocols."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    zero = width * 0
    return _ratio(max(width, zero) * max(height, zero), a, b)


def strict_iou(a: Box, b: Box) -> np.floating:
    """0 unless the intersection has a positive side in both directions *before* the +1: boxes that share only an edge
    give 0, a box without width or height gives 0 even against itself."""
    x1, y1 = max(a[0], b[0]), max(a[1], b[1])
    x2, y2 = min(a[2], b[2]), min(a[3], b[3])
    if x2 > x1 and y2 > y1:
        return _ratio((x2 - x1 + 1) * (y2 - y1 + 1), a, b)
    return (x2 - x1) * 0


def union_box(a: Box, b: Box) -> np.ndarray:
    """The smallest rectangle around both boxes."""
    return np.array([min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])])
