"""Average precision from the ranks of the right detections.

Precision falls at every wrong detection, so its maxima lie at the right ones. A class is therefore described by the
ranks of its right detections (1-based, wrong ones counted), and no list of all detections needs to be sorted: only
counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core.ragged import Offsets, argsort_stable, offsets_of

ELEVEN_POINTS = np.arange(0, 1.1, 0.1)
"""Recall thresholds of the Python evaluators: 3, 6 and 7 tenths are a last bit above the fractions, and that counts."""

MATLAB_POINTS = np.array([i * 0.1 for i in range(6)] + [1 - (10 - i) * 0.1 for i in range(6, 11)])
"""`0:0.1:1` as Matlab builds it, from both ends: only 3 tenths are a last bit above the fraction."""


def positive_ranks(
    score: npt.NDArray[np.floating], right: npt.NDArray[np.bool_], order: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Ascending ranks of the right detections of one class, sorted by falling score and, on ties, by rising `order`."""
    wanted = np.sort(score[right])
    ascending = np.sort(score)
    above = len(score) - np.searchsorted(ascending, wanted, side="right")
    equal = len(score) - np.searchsorted(ascending, wanted, side="left") - above
    if (equal > 1).any():
        return np.flatnonzero(right[np.lexsort((order, -score))]) + 1
    return above[::-1] + 1


@dataclass(frozen=True)
class ClassRanks:
    """Ranks of the right detections of C classes, from which average precision follows.

    Attributes:
        detections: (C,) number of detections.
        positives: (C,) number of annotated relations.
        offsets, ranks: (C + 1,), ragged ranks of the right detections.
    """

    detections: npt.NDArray[np.int64]
    positives: npt.NDArray[np.int64]
    offsets: Offsets
    ranks: npt.NDArray[np.int64]

    @property
    def right(self) -> npt.NDArray[np.int64]:
        """(C,) number of right detections."""
        return np.diff(self.offsets)

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """(C,) final recall; 0 for a class without annotated relations."""
        return self.right / np.maximum(self.positives, 1)

    def of_class(self, index: int | np.integer) -> npt.NDArray[np.int64]:
        """Ranks of one class."""
        return self.ranks[self.offsets[index] : self.offsets[index + 1]]


def rank_by_class(
    label: npt.NDArray[np.integer],
    score: npt.NDArray[np.floating],
    right: npt.NDArray[np.bool_],
    order: npt.NDArray[np.int64],
    positives: npt.NDArray[np.int64],
) -> ClassRanks:
    """Rank the detections of every class.

    Args:
        label: (n,) class 0..C-1 of each detection; below 0 for detections that do not count.
        score, right: (n,) its score and whether it is credited with a relation.
        order: (n,) settles ties, smaller first; all different.
        positives: (C,) number of annotated relations.
    """
    classes = len(positives)
    counted = label >= 0
    if not counted.all():
        label, score, right, order = label[counted], score[counted], right[counted], order[counted]
    small = classes <= np.iinfo(np.uint16).max  # then a radix sort does it
    by_class = np.argsort(label.astype(np.uint16), kind="stable") if small else argsort_stable(label)
    detections = np.bincount(label, minlength=classes)
    ends = offsets_of(detections)
    score, right, order = score[by_class], right[by_class], order[by_class]
    hits = np.zeros(classes, np.int64)
    ranks: list[npt.NDArray[np.int64]] = []
    for index in np.unique(np.searchsorted(ends, np.flatnonzero(right), side="right") - 1):
        own = slice(ends[index], ends[index + 1])
        ranks.append(positive_ranks(score[own], right[own], order[own]))
        hits[index] = len(ranks[-1])
    return ClassRanks(detections, positives, offsets_of(hits), np.concatenate([np.zeros(0, np.int64), *ranks]))


def interpolated_ap(ranks: ClassRanks, thresholds: npt.NDArray[np.float64] = ELEVEN_POINTS) -> npt.NDArray[np.float64]:
    """(C,) mean over the thresholds of the best precision at that recall or beyond."""
    ap = np.zeros(len(ranks.positives))
    for index in np.flatnonzero(ranks.right):
        own = ranks.of_class(index)
        found = np.arange(1, len(own) + 1)
        envelope = np.maximum.accumulate((found / own)[::-1])[::-1]
        reached = np.searchsorted(found / ranks.positives[index], thresholds)
        best = np.where(reached < len(own), envelope[np.minimum(reached, len(own) - 1)], 0.0)
        ap[index] = np.cumsum(best / len(thresholds))[-1]  # one by one, as the published loops add
    return ap


def envelope_area(ranks: npt.NDArray[np.int64], positives: int, recall_type: type[np.floating] = np.float64) -> float:
    """Area under the precision envelope of one class (VOC 2010 and later).

    Args:
        ranks: ranks of the right detections, ascending.
        positives: number of annotated relations.
        recall_type: type that recall is rounded to before the area is summed in float64.
    """
    found = np.arange(1, len(ranks) + 1)
    recall = (found.astype(recall_type) / recall_type(positives)).astype(np.float64)
    envelope = np.maximum.accumulate((found / ranks)[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def all_points_ap(ranks: ClassRanks) -> npt.NDArray[np.float64]:
    """(C,) area under the precision envelope; 0 for a class without right detections."""
    areas = np.zeros(len(ranks.positives))
    for index in np.flatnonzero(ranks.right):
        areas[index] = envelope_area(ranks.of_class(index), int(ranks.positives[index]))
    return areas
