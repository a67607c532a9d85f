"""Filters of scored candidates: pure functions on the labels of one image.

Order of labels: by falling confidence, ties by subject, object and relation, so that a reader who keeps the first N keeps the best N.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlip_model.boxes import iou


@dataclass(frozen=True)
class Labels:
    """m scored relations of one image.

    subject, object: (m,) int32 entity indices; relation: m texts; confidence: (m,) float32 in 0..1.
    """

    subject: npt.NDArray[np.int32]
    object: npt.NDArray[np.int32]
    relation: tuple[str, ...]
    confidence: npt.NDArray[np.float32]

    @classmethod
    def of(
        cls, subject: Sequence[int], target: Sequence[int], relation: Sequence[str], confidence: Sequence[float]
    ) -> Labels:
        """Return labels from plain sequences of equal length."""
        ends = np.asarray(subject, np.int32), np.asarray(target, np.int32)
        return cls(*ends, tuple(relation), np.asarray(confidence, np.float32))

    def __len__(self) -> int:
        return len(self.relation)

    def take(self, rows: npt.NDArray[np.int64] | Sequence[int]) -> Labels:
        """Return the labels at `rows`, in that order."""
        index = np.asarray(rows, np.int64)
        return Labels(
            self.subject[index], self.object[index], tuple(self.relation[i] for i in index), self.confidence[index]
        )

    def ranked(self) -> Labels:
        """Return the same labels in the order of the module."""
        keys = zip(-self.confidence, self.subject, self.object, self.relation, strict=True)
        return self.take([i for _, i in sorted(zip(keys, range(len(self)), strict=True))])


def deduplicate(labels: Labels) -> Labels:
    """Return one label for each (subject, object, relation): the most confident."""
    ranked = labels.ranked()
    return _first_of_each(ranked, zip(ranked.subject.tolist(), ranked.object.tolist(), ranked.relation, strict=True), 1)


def at_least(labels: Labels, threshold: float) -> Labels:
    """Return the labels whose confidence is `threshold` or more."""
    return labels.take(np.flatnonzero(labels.confidence >= np.float32(threshold)))


def top_k(labels: Labels, k: int | None) -> Labels:
    """Return the `k` most confident labels of each ordered pair; all where `k` is None."""
    if k is None:
        return labels
    ranked = labels.ranked()
    return _first_of_each(ranked, zip(ranked.subject.tolist(), ranked.object.tolist(), strict=True), k)


def _first_of_each(labels: Labels, keys: Iterable[Hashable], k: int) -> Labels:
    """Return the first `k` labels of each key."""
    counts: Counter[Hashable] = Counter()
    kept = []
    for i, key in enumerate(keys):
        counts[key] += 1
        if counts[key] <= k:
            kept.append(i)
    return labels.take(kept)


def overlapping(labels: Labels, boxes: npt.NDArray[np.float32]) -> Labels:
    """Return the labels between boxes (n, 4) x1 y1 x2 y2 that share an area."""
    return labels.take(np.flatnonzero(iou(boxes[labels.subject], boxes[labels.object])))
