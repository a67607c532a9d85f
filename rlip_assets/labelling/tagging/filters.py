"""Filters of scored candidates: pure functions on the labels of one image.

Order of labels: by falling confidence, ties by subject, object and relation, so that a reader who keeps the first N keeps the best N.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlip_assets.labelling.candidates import boxes_overlap


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
        """From plain sequences of equal length."""
        return cls(
            np.asarray(subject, np.int32),
            np.asarray(target, np.int32),
            tuple(relation),
            np.asarray(confidence, np.float32),
        )

    def __len__(self) -> int:
        return len(self.relation)

    def take(self, rows: npt.NDArray[np.int64] | Sequence[int]) -> Labels:
        """The labels at `rows`, in that order."""
        index = np.asarray(rows, np.int64)
        return Labels(
            self.subject[index], self.object[index], tuple(self.relation[i] for i in index), self.confidence[index]
        )

    def ranked(self) -> Labels:
        """The same labels in the order of the module."""
        keys = zip(-self.confidence, self.subject, self.object, self.relation, strict=True)
        return self.take([i for _, i in sorted(zip(keys, range(len(self)), strict=True))])


def deduplicate(labels: Labels) -> Labels:
    """One label for each (subject, object, relation): the most confident."""
    seen: set[tuple[int, int, str]] = set()
    kept = []
    ranked = labels.ranked()
    for i, key in enumerate(zip(ranked.subject.tolist(), ranked.object.tolist(), ranked.relation, strict=True)):
        if key not in seen:
            seen.add(key)
            kept.append(i)
    return ranked.take(kept)


def at_least(labels: Labels, threshold: float) -> Labels:
    """Labels whose confidence is `threshold` or more."""
    return labels.take(np.flatnonzero(labels.confidence >= np.float32(threshold)))


def top_k(labels: Labels, k: int | None) -> Labels:
    """The `k` most confident labels of each ordered pair; all where `k` is None."""
    if k is None:
        return labels
    counts: Counter[tuple[int, int]] = Counter()
    kept = []
    ranked = labels.ranked()
    for i, pair in enumerate(zip(ranked.subject.tolist(), ranked.object.tolist(), strict=True)):
        counts[pair] += 1
        if counts[pair] <= k:
            kept.append(i)
    return ranked.take(kept)


def overlapping(labels: Labels, boxes: npt.NDArray[np.float32]) -> Labels:
    """Labels between boxes (n, 4) x1 y1 x2 y2 that share an area."""
    return labels.take(np.flatnonzero(boxes_overlap(boxes)[labels.subject, labels.object]))
