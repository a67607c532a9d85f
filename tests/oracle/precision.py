"""Average precision of one class, and the book in which predictions of a class are filed."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np

# 0.3, 0.6 and 0.7 come out slightly above 3/10, 6/10 and 7/10: a recall of exactly 3/10 loses that point
PUBLISHED_RECALLS = [float(t) for t in np.arange(0, 1.1, 0.1)]
# Matlab builds 0:0.1:1 from both ends
MATLAB_RECALLS = [i * 0.1 for i in range(6)] + [1 - i * 0.1 for i in range(4, -1, -1)]


def recall_precision(entries: Iterable[tuple[float, bool]], positives: int) -> list[tuple[float, float]]:
    """(recall, precision) after each entry; `entries` are (score, is true positive), best first after a stable sort."""
    curve, true = [], 0
    for rank, (_, hit) in enumerate(sorted(entries, key=lambda entry: -entry[0]), start=1):
        true += hit
        curve.append((true / positives if positives else 0.0, true / rank))
    return curve


def eleven_point_ap(entries: Iterable[tuple[float, bool]], positives: int, recalls: Sequence[float]) -> float:
    curve = recall_precision(entries, positives)
    total = 0.0
    for threshold in recalls:
        total += max((precision for recall, precision in curve if recall >= threshold), default=0.0) / len(recalls)
    return total


def all_point_ap(curve: Sequence[tuple[float, float]]) -> float:
    """Area under the precision envelope (VOC 2010 and later)."""
    envelope = [precision for _, precision in curve]
    for i in range(len(envelope) - 2, -1, -1):
        envelope[i] = max(envelope[i], envelope[i + 1])
    area, reached = 0.0, 0.0
    for (recall, _), best in zip(curve, envelope, strict=True):
        area += (recall - reached) * best
        reached = recall
    return area


def mean(values: Iterable[float]) -> float:
    """The mean; not-a-number for an empty list."""
    values = list(values)
    return float(np.mean(values)) if values else float("nan")


class ClassBook:
    """Ground truths and filed predictions of each class."""

    def __init__(self) -> None:
        self.positives: dict[Hashable, int] = {}
        self.entries: dict[Hashable, list[tuple[float, bool]]] = {}

    def expect(self, key: Hashable, count: int = 1) -> None:
        """Add `count` ground truths (0 opens the class)."""
        self.positives[key] = self.positives.get(key, 0) + count
        self.entries.setdefault(key, [])

    def file(self, key: Hashable, score: float, hit: bool) -> None:
        """File a prediction; one of a class that was never expected is discarded."""
        if key in self.positives:
            self.entries[key].append((score, hit))

    def per_class(self, recalls: Sequence[float] = PUBLISHED_RECALLS) -> dict[Any, dict[str, float]]:
        table = {}
        for key, positives in self.positives.items():
            entries = self.entries[key]
            hits = sum(hit for _, hit in entries)
            table[key] = {
                "gts": positives,
                "n": len(entries),
                "tp": hits,
                "ap": eleven_point_ap(entries, positives, recalls),
                "recall": hits / positives if positives else 0.0,
            }
        return table
