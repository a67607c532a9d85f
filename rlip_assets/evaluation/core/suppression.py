"""Pair suppression (NMS over relation triplets): of two detections of one class with nearly equal boxes the weaker goes.

The greedy loop of the published evaluators, in two steps that work on a whole batch: find the pairs of detections that exclude
each other (`crowded_pairs` over `same_group_pairs`), then settle in rounds over these pairs who stays (`settle`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core.overlaps import Columns, areas, plain_iou
from rlip_assets.evaluation.core.ragged import argsort_stable, first_of_runs, offsets_of, ranges

CHUNK = 1 << 15
"""Pairs looked at together: few enough for their intermediate arrays to stay in the processor's cache."""

Rows = npt.NDArray[np.integer]
Pairs = tuple[Rows, Rows]
Crowded = Callable[[Rows, Rows], npt.NDArray[np.bool_]]


def same_group_pairs(groups: Rows) -> Iterator[Pairs]:
    """All pairs (i, j), i < j, of positions with equal group numbers (>= 0), in chunks of about `CHUNK`."""
    order = argsort_stable(groups)
    starts = np.flatnonzero(first_of_runs(groups[order]))
    sizes = np.diff(np.append(starts, len(order)))
    later = np.repeat(starts + sizes, sizes) - np.arange(len(order)) - 1
    total = offsets_of(later)
    cuts = np.unique([*np.searchsorted(total, np.arange(0, total[-1], CHUNK)), len(order)])
    for low, high in pairwise(cuts):
        counts = later[low:high]
        yield np.repeat(order[low:high], counts), order[ranges(np.arange(low + 1, high + 1), counts)]


def conflicting_pairs(groups: Rows, crowded: Crowded) -> Pairs:
    """Pairs of one group that may not both survive.

    Args:
        groups: (n,) group number of each position.
        crowded: tells for pairs of positions whether their boxes overlap too much.
    """
    found: list[Pairs] = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for first, second in same_group_pairs(groups):
        mask = np.flatnonzero(crowded(first, second))
        found.append((first[mask], second[mask]))
    return np.concatenate([pair[0] for pair in found]), np.concatenate([pair[1] for pair in found])


def crowded_pairs(sub: Columns, obj: Columns, threshold: float = 0.7, alpha: float = 1.0, beta: float = 0.5) -> Crowded:
    """Overlap test of the relation NMS: IoU(subjects)^alpha x IoU(objects)^beta above the threshold, or not a number."""
    sub_areas, obj_areas = areas(sub), areas(obj)
    proper = bool((sub_areas > 0).all() and (obj_areas > 0).all())
    prunable = proper and alpha == 1.0 and beta >= 0

    def crowded(first: Rows, second: Rows) -> npt.NDArray[np.bool_]:
        overlap = plain_iou(sub.take(first), sub.take(second), sub_areas[first], sub_areas[second])
        if prunable:  # neither factor of proper boxes exceeds 1 (up to rounding): the first alone clears most pairs
            left = np.flatnonzero(overlap * np.float32(1.001) > threshold)
            first, second, kept = first[left], second[left], overlap[left]
        else:
            left, kept = np.arange(len(first)), overlap
        others = plain_iou(obj.take(first), obj.take(second), obj_areas[first], obj_areas[second])
        result = np.zeros(len(overlap), bool)
        with np.errstate(invalid="ignore", divide="ignore"):
            result[left] = ~(np.power(kept, alpha) * np.power(others, beta) <= threshold)
        return result

    return crowded


def crowded_boxes(boxes: Columns, threshold: float = 0.5) -> Crowded:
    """Overlap test of the phrase NMS: plain IoU above the threshold, or not a number."""
    sizes = areas(boxes)

    def crowded(first: Rows, second: Rows) -> npt.NDArray[np.bool_]:
        return ~(plain_iou(boxes.take(first), boxes.take(second), sizes[first], sizes[second]) <= threshold)

    return crowded


def by_row(crowded: Crowded, row: Rows) -> Crowded:
    """The same test for cells, each of which belongs to a row of boxes."""
    return lambda first, second: crowded(row[first], row[second])


def settle(conflicts: Pairs, score: npt.NDArray[np.floating], priority: Rows) -> npt.NDArray[np.bool_]:
    """Greedy suppression: the best-scored stays and drops all that conflict with it, then the next, and so on.

    Args:
        conflicts: pairs of positions that exclude each other.
        score: (n,)
        priority: (n,) settles ties: of equal scores the larger priority goes first.

    Returns:
        (n,) True for those that survive.
    """
    keep = np.ones(len(score), bool)
    first, second = conflicts
    swap = score[first] < score[second]
    swap |= (score[first] == score[second]) & (priority[first] < priority[second])
    first, second = np.where(swap, second, first), np.where(swap, first, second)
    below = np.zeros(len(score), bool)
    while len(first):
        below[second] = True
        decided = ~below[first]  # nothing undecided stands above these: they stay, and what conflicts with them goes
        keep[second[decided]] = False
        below[second] = False
        undecided = np.flatnonzero(keep[first] & keep[second] & ~decided)
        first, second = first[undecided], second[undecided]
    return keep
