"""Alignment and uniformity of relation features."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return math.sqrt(sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True)))


def _unit(feature: np.ndarray) -> np.ndarray:
    feature = np.asarray(feature, dtype=np.float64)
    return feature / math.sqrt(sum(float(x) ** 2 for x in feature))


def alignment_uniformity(classes: Sequence[np.ndarray], t: float = 2, alpha: float = 2) -> dict[str, Any]:
    """`classes`: one (n, D) array of features per class, any length; they are L2-normalised here.

    uniformity: log of the mean of exp(-t d^2) over all unordered pairs, classes pooled.
    alignment: the mean over classes of the mean of d^alpha over the pairs of a class; classes with fewer than two
    members have no pair and are skipped and counted."""
    units = [[_unit(feature) for feature in members] for members in classes]
    pooled = [feature for members in units for feature in members]
    potentials = [math.exp(-t * _distance(a, b) ** 2) for a, b in combinations(pooled, 2)]
    per_class = {}
    for index, members in enumerate(units):
        powers = [_distance(a, b) ** alpha for a, b in combinations(members, 2)]
        per_class[index] = {"n": len(members), "alignment": sum(powers) / len(powers) if powers else math.nan}
    defined = [row["alignment"] for row in per_class.values() if row["n"] >= 2]
    metrics = {
        "uniformity": math.log(sum(potentials) / len(potentials)) if potentials else math.nan,
        "alignment": sum(defined) / len(defined) if defined else math.nan,
        "skipped classes": len(per_class) - len(defined),
    }
    return {"metrics": metrics, "per_class": per_class}
