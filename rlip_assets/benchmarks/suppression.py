"""Pair suppression (NMS over relation triplets): of two detections of one class with nearly equal boxes the weaker goes.

Two steps. Which pairs of query boxes overlap too much depends on the boxes alone, so it is settled once
(`conflicting_pairs`) and serves every verb, every K and every protocol. Who then survives is settled in rounds over
these conflicts only (`suppress`); the result is that of the greedy loop of the published evaluators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rlip_assets.benchmarks.overlaps import Columns, areas, plain_iou
from rlip_assets.benchmarks.ragged import argsort_stable, first_of_runs, offsets_of, ranges

CHUNK = 1 << 19

Rows = npt.NDArray[np.int64]
Pairs = tuple[Rows, Rows]


def same_group_pairs(groups: Rows) -> Iterator[Pairs]:
    """All pairs (i, j), i < j, of rows with equal group numbers, in chunks of about `CHUNK`."""
    order = argsort_stable(groups)
    starts = np.flatnonzero(first_of_runs(groups[order]))
    ends = np.repeat(np.append(starts[1:], len(order)), np.diff(np.append(starts, len(order))))
    later = ends - np.arange(len(order)) - 1
    total = offsets_of(later)
    cuts = np.unique([*np.searchsorted(total, np.arange(0, total[-1], CHUNK)), len(order)])
    for low, high in pairwise(cuts):
        counts = later[low:high]
        first = np.repeat(np.arange(low, high), counts)
        yield order[first], order[ranges(np.arange(low + 1, high + 1), counts)]


def conflicting_pairs(groups: Rows, crowded: Callable[[Rows, Rows], npt.NDArray[np.bool_]]) -> Pairs:
    """Pairs of one group that may not both survive.

    Args:
        groups: (R,) group number of each query pair: equal for the same image and labels.
        crowded: tells for pairs of rows whether their boxes overlap too much.
    """
    found: list[Pairs] = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for first, second in same_group_pairs(groups):
        mask = crowded(first, second)
        found.append((first[mask], second[mask]))
    return np.concatenate([pair[0] for pair in found]), np.concatenate([pair[1] for pair in found])


def crowded_pairs(
    sub: Columns, obj: Columns, threshold: float = 0.7, alpha: float = 1.0, beta: float = 0.5
) -> Callable[[Rows, Rows], npt.NDArray[np.bool_]]:
    """Overlap test of the relation NMS:

    IoU(subjects)^alpha x IoU(objects)^beta above the threshold, or not a number.
    """
    proper = all(bool((areas(boxes) > 0).all()) for boxes in (sub, obj))
    prunable = proper and alpha == 1.0 and beta >= 0

    def crowded(first: Rows, second: Rows) -> npt.NDArray[np.bool_]:
        overlap = plain_iou(sub.take(first), sub.take(second))
        # Neither factor of proper boxes exceeds 1 (up to rounding), so the first one alone can clear most pairs.
        open_rows = np.flatnonzero(overlap * 1.001 > threshold) if prunable else np.arange(len(first))
        others = plain_iou(obj.take(first[open_rows]), obj.take(second[open_rows]))
        with np.errstate(invalid="ignore", divide="ignore"):
            product = np.power(overlap[open_rows], alpha) * np.power(others, beta)
            result = np.zeros(len(first), bool)
            result[open_rows] = ~(product <= threshold)
        return result

    return crowded


def crowded_boxes(boxes: Columns, threshold: float = 0.5) -> Callable[[Rows, Rows], npt.NDArray[np.bool_]]:
    """Overlap test of the phrase NMS: plain IoU above the threshold, or not a number."""

    def crowded(first: Rows, second: Rows) -> npt.NDArray[np.bool_]:
        return ~(plain_iou(boxes.take(first), boxes.take(second)) <= threshold)

    return crowded


def suppress(
    conflicts: Pairs,
    row: Rows,
    verb: npt.NDArray[np.int32],
    score: npt.NDArray[np.floating],
    priority: Rows,
    num_rows: int,
    num_verbs: int,
) -> npt.NDArray[np.bool_]:
    """Greedy suppression among cells of the same verb.

    Args:
        conflicts: pairs of query rows that exclude each other, from `conflicting_pairs`.
        row, verb, score: (n,) the cells; `row` counts over all images, at most one cell a (row, verb), rows ascending.
        priority: (n,) settles ties: of equal scores the larger priority goes first.
        num_rows, num_verbs: R and V.

    Returns:
        (n,) True for the cells that survive.
    """
    keep = np.ones(len(row), bool)
    first, second = _conflicting_cells(conflicts, row, verb, num_rows, num_verbs)
    swap = score[first] < score[second]
    swap |= (score[first] == score[second]) & (priority[first] < priority[second])
    first, second = np.where(swap, second, first), np.where(swap, first, second)
    below = np.zeros(len(row), bool)
    while len(first):
        below[second] = True
        decided = ~below[first]  # nothing undecided stands above these: they stay, and what they conflict with goes
        keep[second[decided]] = False
        below[second] = False
        open_pairs = keep[first] & keep[second] & ~decided
        first, second = first[open_pairs], second[open_pairs]
    return keep


def _conflicting_cells(
    conflicts: Pairs, row: Rows, verb: npt.NDArray[np.int32], num_rows: int, num_verbs: int
) -> Pairs:
    """Expand conflicting rows to the cells of equal verbs that both rows have."""
    starts = np.searchsorted(row, np.arange(num_rows + 1))
    counts = np.diff(starts)
    a, b = conflicts
    chosen = (counts[a] > 0) & (counts[b] > 0)
    a, b = a[chosen], b[chosen]
    keys = row * num_verbs + verb
    found: list[Pairs] = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for low in range(0, len(a), CHUNK // 8):
        part_a, part_b = a[low : low + CHUNK // 8], b[low : low + CHUNK // 8]
        cells = ranges(starts[part_a], counts[part_a])
        wanted = np.repeat(part_b * num_verbs, counts[part_a]) + verb[cells]
        position = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        both = keys[position] == wanted
        found.append((cells[both], position[both]))
    return np.concatenate([pair[0] for pair in found]), np.concatenate([pair[1] for pair in found])
