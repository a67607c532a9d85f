"""Bootstrap intervals over images: figures of images drawn with replacement, from matches that are found once.

An image that is drawn twice counts twice, with all its detections and annotated relations. Which detections are right is decided within
an image and so does not change; ranks, average precisions and their means are computed again for each draw (Efron's percentile interval).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core.average_precision import ClassRanks
from rlip_assets.evaluation.core.ragged import offsets_of, ranges

DRAWS = 200
LEVEL = 0.95

Ranks = Mapping[str, ClassRanks]
"""Ranked classes by task, as `ProtocolResult.tables`."""


class InRankOrder(NamedTuple):
    """Image of each detection of one class, and whether it is right, in the order of the ranks, up to the last right one."""

    image: npt.NDArray[np.integer]
    right: npt.NDArray[np.bool_]


def in_rank_order(
    score: npt.NDArray[np.floating],
    right: npt.NDArray[np.bool_],
    order: npt.NDArray[np.int64],
    image: npt.NDArray[np.integer],
) -> InRankOrder:
    """Sort the detections of one class by falling score and, on ties, by rising `order`; all (n,)."""
    if not right.any():
        return InRankOrder(image[:0], right[:0])
    rows = np.lexsort((order, -score))
    rows = rows[: np.flatnonzero(right[rows])[-1] + 1]
    return InRankOrder(image[rows], right[rows])


@dataclass(frozen=True)
class ImageMatches:
    """Detections of C classes in the order of their ranks, and annotated relations, with the images that they are in.

    Attributes:
        offsets: (C + 1,) class i owns detections `offsets[i]:offsets[i + 1]`; those after its last right one are left out.
        image, right: (n,) image of each detection, and whether it is right.
        truth_label, truth_image: (m,) class and image of each annotated relation.
    """

    offsets: npt.NDArray[np.int64]
    image: npt.NDArray[np.integer]
    right: npt.NDArray[np.bool_]
    truth_label: npt.NDArray[np.integer]
    truth_image: npt.NDArray[np.integer]

    @classmethod
    def of(
        cls,
        label: npt.NDArray[np.integer],
        score: npt.NDArray[np.floating],
        right: npt.NDArray[np.bool_],
        order: npt.NDArray[np.int64],
        image: npt.NDArray[np.integer],
        truth_label: npt.NDArray[np.integer],
        truth_image: npt.NDArray[np.integer],
        classes: int,
    ) -> ImageMatches:
        """Sort detections as `rank_by_class` ranks them.

        Args:
            label, score, right, order: as `rank_by_class` takes them.
            image: (n,) image of each detection.
            truth_label, truth_image: class and image of each annotated relation.
            classes: C.
        """
        rows = np.argsort(label, kind="stable")
        ends = np.searchsorted(label[rows], np.arange(classes + 1))
        owned = [rows[start:end] for start, end in pairwise(ends)]
        ranked = [in_rank_order(score[own], right[own], order[own], image[own]) for own in owned]
        return cls.of_classes(ranked, truth_label, truth_image)

    @classmethod
    def of_classes(
        cls,
        ranked: Sequence[InRankOrder],
        truth_label: npt.NDArray[np.integer],
        truth_image: npt.NDArray[np.integer],
    ) -> ImageMatches:
        """Join classes, each with its detections in the order of their ranks."""
        return cls(
            offsets_of([len(own.image) for own in ranked]),
            np.concatenate([np.zeros(0, np.int64), *(own.image for own in ranked)]),
            np.concatenate([np.zeros(0, bool), *(own.right for own in ranked)]),
            truth_label,
            truth_image,
        )

    def drawn(self, times: npt.NDArray[np.int64]) -> ClassRanks:
        """Return the ranks of a draw in which image i occurs `times[i]` times.

        The number of detections is that up to the last right one.
        """
        classes = len(self.offsets) - 1
        weight = times[self.image]
        place = offsets_of(weight)
        hits = np.flatnonzero(self.right)
        label = np.searchsorted(self.offsets, hits, side="right") - 1
        first = place[hits] - place[self.offsets[label]] + 1
        found = np.bincount(label, weights=weight[hits], minlength=classes).astype(np.int64)
        truth = np.bincount(self.truth_label, weights=times[self.truth_image], minlength=classes).astype(np.int64)
        return ClassRanks(
            np.diff(place[self.offsets]),
            truth,
            offsets_of(found),
            ranges(first, weight[hits]),
        )


@dataclass(frozen=True)
class Resampling:
    """The images behind a result, and how its figures follow from the ranks of its classes.

    Attributes:
        images: N, number of evaluated images.
        matches: by task.
        figures: of the ranks by task.
    """

    images: int
    matches: Mapping[str, ImageMatches]
    figures: Callable[[Ranks], Mapping[str, float]]

    def of_draw(self, times: npt.NDArray[np.int64]) -> Mapping[str, float]:
        """Return the figures of a draw in which image i occurs `times[i]` times."""
        return self.figures({task: matches.drawn(times) for task, matches in self.matches.items()})

    def intervals(self, draws: int = DRAWS, level: float = LEVEL, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Return the percentile interval of each figure; a draw in which a figure has no class does not count for it.

        Args:
            draws: number of draws of N images each.
            level: share of the draws inside an interval.
        """
        values: dict[str, list[float]] = {}
        for times in _draws(self.images, draws, seed):
            for name, value in self.of_draw(times).items():
                if not math.isnan(value):
                    values.setdefault(name, []).append(value)
        tails = (100 * (1 - level) / 2, 100 * (1 + level) / 2)
        return {name: _pair(np.percentile(own, tails)) for name, own in values.items()}


def _draws(images: int, number: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """How often each image occurs in each draw."""
    generator = np.random.default_rng(seed)
    for _ in range(number):
        yield np.bincount(generator.integers(0, images, images), minlength=images)


def _pair(bounds: Sequence[float] | npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = bounds
    return float(low), float(high)
