"""Alignment and uniformity of relation features (Wang and Isola, 2020), as the RLIP papers measure them.

* uniformity(t) = log of the mean over all unordered pairs of exp(-t |f_i - f_j|^2), all classes pooled; lower is more uniform;
* alignment(alpha) = mean over classes of the mean over pairs of one class of |f_i - f_j|^alpha; lower is better aligned.

Features are brought to unit length first. A feature that stands for several verbs is given once under each. The
number of pairs grows with the square of the features, so they are visited in blocks: memory stays bounded, sums are
in float64, and no pair is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rlip_assets.storage.errors import DataError

BLOCK = 1024

Features = npt.NDArray[np.floating]


def uniformity(features: Features, t: float = 2.0) -> float:
    """Uniformity of (n, D) features; NaN for fewer than two."""
    points = np.asarray(features, np.float64)
    count = len(points)
    if count < 2:
        return float("nan")
    norms = np.einsum("ij,ij->i", points, points)
    total = 0.0
    for low in range(0, count, BLOCK):
        own = slice(low, low + BLOCK)
        for other_low in range(low, count, BLOCK):
            other = slice(other_low, other_low + BLOCK)
            squared = norms[own, None] + norms[None, other] - 2 * (points[own] @ points[other].T)
            weights = np.exp(-t * np.maximum(squared, 0))
            total += float(np.triu(weights, 1).sum() if low == other_low else weights.sum())
    return float(np.log(total / (count * (count - 1) / 2)))


def mean_distance(features: Features, alpha: float = 2.0) -> float:
    """Mean over unordered pairs of (n, D) features of their distance to the power alpha; NaN for fewer than two."""
    points = np.asarray(features, np.float64)
    count = len(points)
    if count < 2:
        return float("nan")
    pairs = count * (count - 1) / 2
    if alpha == 2.0:  # the sum over pairs follows from the sums over features
        centred = points - points.mean(axis=0)
        return float(count * np.einsum("ij,ij->", centred, centred) / pairs)
    total = 0.0
    rows = max(1, (BLOCK * BLOCK) // max(1, points.size))
    for low in range(0, count, rows):
        # Differences and not products: a small distance would lose its digits under the root.
        differences = points[low : low + rows, None, :] - points[None, low:, :]
        squared = np.einsum("ijk,ijk->ij", differences, differences)
        total += float(np.triu(squared ** (alpha / 2), 1).sum())
    return total / pairs


class AlignmentEvaluator:
    """Gathers features by verb and measures them.

    Args:
        verbs: number of verbs.
    """

    def __init__(self, verbs: int) -> None:
        self.verbs = verbs
        self._features: list[npt.NDArray[np.float32]] = []
        self._labels: list[npt.NDArray[np.int64]] = []

    def update(self, features: Features, labels: npt.NDArray[np.integer]) -> None:
        """Take in (n, D) features, of any length, with their (n,) verbs.

        Raises:
            DataError: different lengths, another D than before, a verb out of range, a value that is not finite, or a
                feature of length 0, which has no direction.
        """
        features, labels = np.asarray(features, np.float32), np.asarray(labels)
        if features.ndim != 2 or labels.shape != (len(features),):
            raise DataError(f"features have shape {features.shape}, labels {labels.shape}; give one verb per feature")
        if self._features and features.shape[1] != self._features[0].shape[1]:
            raise DataError(f"features have {features.shape[1]} channels, earlier ones {self._features[0].shape[1]}")
        if len(labels) and not (labels.min() >= 0 and labels.max() < self.verbs):
            raise DataError(f"feature verbs must be 0..{self.verbs - 1}, found {labels.min()}..{labels.max()}")
        if not np.isfinite(features).all():
            row = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
            raise DataError(f"feature {row} of the batch is not finite; look for the reason in the network")
        if not features.any(axis=1).all():
            row = int(np.flatnonzero(~features.any(axis=1))[0])
            raise DataError(f"feature {row} of the batch is all zero; look for the reason in the network")
        self._features.append(features.copy())
        self._labels.append(labels.astype(np.int64))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the gathered features as flat arrays."""
        if not self._features:
            return {"features": np.zeros((0, 0), np.float32), "labels": np.zeros(0, np.int64)}
        return {"features": np.concatenate(self._features), "labels": np.concatenate(self._labels)}

    def load_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Add what another process gathered."""
        if len(state["labels"]):
            self.update(state["features"], state["labels"])

    def merge(self, other: AlignmentEvaluator) -> None:
        """Add what another evaluator gathered."""
        self.load_state(other.state())

    def compute(self, t: float = 2.0, alpha: float = 2.0) -> dict[str, float]:
        """`uniformity`, `alignment`, `features`, `classes`, and `classes_skipped`: those with one feature, which have no pair.

        Verbs without any feature are neither counted nor skipped.
        """
        state = self.state()
        features, labels = state["features"].astype(np.float64), state["labels"]
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        order = np.argsort(labels, kind="stable")
        counts = np.bincount(labels, minlength=self.verbs)
        groups = np.split(features[order], np.cumsum(counts)[:-1])
        distances = [mean_distance(group, alpha) for group in groups if len(group) > 1]
        return {
            "uniformity": uniformity(features, t),
            "alignment": float(np.mean(distances)) if distances else float("nan"),
            "features": float(len(labels)),
            "classes": float(len(distances)),
            "classes_skipped": float((counts == 1).sum()),
        }
