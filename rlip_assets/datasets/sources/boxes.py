"""Rules for boxes that no image can contain, and checks on the boxes of a whole table.

Detection and Visual Genome boxes are clipped to the image; what is left empty, inverted or not a number is dropped.
The boxes of benchmark ground truth (HICO-DET, V-COCO, Open Images) stay as annotated, because the evaluation protocols
use them so. Everything is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rlip_assets.datasets.sources.readers import RecordError
from rlip_assets.datasets.sources.rows import four_numbers, shown
from rlip_assets.storage.errors import DataError

Box = tuple[float, float, float, float]

DROPPED = {
    "boxes_not_finite": "not four numbers",
    "boxes_not_fractions": "not fractions of the image",
    "boxes_inverted": "turned round or without area",
    "boxes_outside": "outside the image",
    "boxes_crowd": "crowds",
    "boxes_group": "groups",
}
"""Rules that drop a box, in words."""

SUSPECT = {
    "boxes_within_a_pixel": (1 / 2, "lie within the first pixel of their image: are they fractions, and not pixels?"),
    "boxes_kept_inverted": (1 / 2, "are turned round: are they x y width height, and not x1 y1 x2 y2?"),
    "boxes_like_corners": (1 / 3, "reach far beyond their image: are they x1 y1 x2 y2, and not x y width height?"),
}
"""Counts of kept boxes that say, beyond a part of all boxes, that a file has another form of box than its format."""

_MOST = 1 / 2
_BEYOND = 1.05


def clipped(box: Sequence[Any], size: tuple[int, int], counts: Counter[str]) -> Box | None:
    """Return `box` (x1 y1 x2 y2, pixels) inside an image of `size` (width, height), or None when nothing is left.

    Counts: `boxes_not_finite`, `boxes_inverted` (right of left or bottom above top, also of no area), `boxes_outside`
    (no part inside) are dropped, `boxes_clipped` kept; kept ones that are suspect, too.
    """
    if not four_numbers(list(box)):
        counts["boxes_not_finite"] += 1
        return None
    x1, y1, x2, y2 = map(float, box)
    if x2 <= x1 or y2 <= y1:
        counts["boxes_inverted"] += 1
        return None
    inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(size[0])), min(y2, float(size[1])))
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        counts["boxes_outside"] += 1
        return None
    if x2 <= 1 and y2 <= 1 < min(size):
        counts["boxes_within_a_pixel"] += 1
    if inside != (x1, y1, x2, y2):
        counts["boxes_clipped"] += 1
    return inside


def as_annotated(box: Sequence[Any], size: tuple[int, int], counts: Counter[str]) -> Box:
    """Return `box` (x1 y1 x2 y2, pixels) unchanged. Counts `boxes_kept_inverted`, and boxes that are suspect.

    Raises:
        RecordError: not four finite numbers.
    """
    if not isinstance(box, list | tuple) or not four_numbers(list(box)):
        raise RecordError(f"box {shown(box)} is not four finite numbers")
    x1, y1, x2, y2 = map(float, box)
    if x2 <= x1 or y2 <= y1:
        counts["boxes_kept_inverted"] += 1
    elif x2 <= 1 and y2 <= 1 < min(size):
        counts["boxes_within_a_pixel"] += 1
    return x1, y1, x2, y2


def from_corner(box: Sequence[Any], size: tuple[int, int], counts: Counter[str]) -> Sequence[Any]:
    """Return x1 y1 x2 y2 of an x y width height box; anything else is returned for the rules above to refuse.

    Counts `boxes_like_corners`: the box reaches far beyond its image, and would fit it as x1 y1 x2 y2.
    """
    if len(box) != 4:
        return box
    x, y, width, height = box
    beyond = x + width > _BEYOND * size[0] or y + height > _BEYOND * size[1]
    if beyond and 0 <= x < width <= size[0] and 0 <= y < height <= size[1]:
        counts["boxes_like_corners"] += 1
    return (x, y, x + width, y + height)


def check_boxes(kept: int, counts: Mapping[str, int], table: str) -> None:
    """Refuse a table that lost most of its boxes, or whose boxes are of another form than its format has.

    Args:
        kept: boxes of the table.
        counts: figures of the rules.
        table: what the table is, for the message.

    Raises:
        DataError: the sentence says how many boxes of how many, and why.
    """
    dropped = {words: counts[name] for name, words in DROPPED.items() if counts.get(name)}
    lost = sum(dropped.values())
    if lost > _MOST * (kept + lost):
        why = ", ".join(f"{number} {words}" for words, number in dropped.items())
        raise DataError(
            f"{table} lost {lost} of its {kept + lost} boxes ({why}); correct the boxes of its annotation files"
        )
    for name, (part, words) in SUSPECT.items():
        if counts.get(name, 0) > part * (kept + lost):
            raise DataError(
                f"{counts[name]} of the {kept + lost} boxes of {table} {words} Correct its annotation files"
            )
