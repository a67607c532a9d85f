"""Rules for boxes that no image can contain.

Detection and Visual Genome boxes are clipped to the image; what is left empty, inverted or not a number is dropped.
The boxes of benchmark ground truth (HICO-DET, V-COCO, Open Images) stay as annotated, because the evaluation protocols
use them so. Everything is counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rlip_assets.datasets.sources.readers import RecordError

Box = tuple[float, float, float, float]


def clipped(box: Sequence[Any], size: tuple[int, int], counts: Counter[str]) -> Box | None:
    """`box` (x1 y1 x2 y2, pixels) inside an image of `size` (width, height), or None when nothing is left.

    Counts: `boxes_not_finite`, `boxes_inverted` (right of left or bottom above top, also of no area), `boxes_outside`
    (no part inside) are dropped, `boxes_clipped` kept.
    """
    numbers = _finite(box)
    if numbers is None:
        counts["boxes_not_finite"] += 1
        return None
    x1, y1, x2, y2 = numbers
    if x2 <= x1 or y2 <= y1:
        counts["boxes_inverted"] += 1
        return None
    inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(size[0])), min(y2, float(size[1])))
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        counts["boxes_outside"] += 1
        return None
    if inside != (x1, y1, x2, y2):
        counts["boxes_clipped"] += 1
    return inside


def as_annotated(box: Sequence[Any], counts: Counter[str]) -> Box:
    """`box` unchanged. Counts `boxes_kept_inverted`.

    Raises:
        RecordError: not four finite numbers.
    """
    numbers = _finite(box)
    if numbers is None:
        raise RecordError(f"box {box!r} is not four finite numbers")
    if numbers[2] <= numbers[0] or numbers[3] <= numbers[1]:
        counts["boxes_kept_inverted"] += 1
    return numbers


def from_corner(box: Sequence[Any]) -> Sequence[Any]:
    """x1 y1 x2 y2 of an x y width height box; anything else is returned for the rules above to refuse."""
    if isinstance(box, list | tuple) and len(box) == 4 and all(isinstance(value, int | float) for value in box):
        x, y, width, height = box
        return (x, y, x + width, y + height)
    return ()


def _finite(box: Any) -> Box | None:
    if (
        not isinstance(box, list | tuple)
        or len(box) != 4
        or not all(isinstance(value, int | float) and math.isfinite(value) for value in box)
    ):
        return None
    x1, y1, x2, y2 = (float(value) for value in box)
    return x1, y1, x2, y2
