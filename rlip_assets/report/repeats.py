"""Runs of one setting with several seeds: their mean, their spread, and what a comparison of two settings shows.

The run of a setting bears its name; repeats with other seeds append `-seed1`, `-seed2` and so on. Two settings are compared seed by seed:
a difference counts as shown only when its mean is above twice its standard error over the seeds that both have.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

REPEAT = re.compile(r"(?P<setting>.+)-seed(?P<number>\d+)")
LEAST_SEEDS = 3
SHOWN_ABOVE = 2.0
"""Standard errors."""

Metrics = Mapping[str, Mapping[str, float | None]]
"""Run name -> metric name -> fraction."""


@dataclass(frozen=True)
class Comparison:
    """Setting `higher` should score above setting `lower` in `metric`."""

    claim: str
    higher: str
    lower: str
    metric: str


def repeats(metrics: Metrics, setting: str) -> dict[int, Mapping[str, float | None]]:
    """Metrics of all runs of a setting, by number of the repeat; the first one is 0."""
    found = {0: metrics[setting]} if setting in metrics else {}
    for run, figures in metrics.items():
        match = REPEAT.fullmatch(run)
        if match and match["setting"] == setting:
            found[int(match["number"])] = figures
    return found


Intervals = Mapping[str, Mapping[str, tuple[float, float]]]
"""Run name -> metric name -> ends of the bootstrap interval over test images, fractions."""


def summary(
    metrics: Metrics, setting: str, columns: Mapping[str, str], intervals: Intervals | None = None
) -> dict[str, Any]:
    """Mean and standard deviation over the seeds, by column title.

    Returns:
        `figures` (means, None where a protocol gives none), `spread` (standard deviations, of two seeds or more), `intervals` (of one
        seed, over test images) and `seeds`.
    """
    runs = repeats(metrics, setting)
    figures: dict[str, float | None] = {}
    spread: dict[str, float] = {}
    for title, name in columns.items():
        values = [value for run in runs.values() if (value := run.get(name)) is not None]
        figures[title] = fmean(values) if values else None
        if len(values) > 1:
            spread[title] = stdev(values)
    own = (intervals or {}).get(setting, {}) if len(runs) == 1 else {}
    known = {title: own[name] for title, name in columns.items() if name in own}
    return {"figures": figures, "spread": spread, "intervals": known, "seeds": len(runs)}


def compare(metrics: Metrics, comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """The paired difference of each comparison, fractions, and its verdict: "shown", "not shown" or "too few seeds"."""
    rows = []
    for one in comparisons:
        higher, lower = (repeats(metrics, setting) for setting in (one.higher, one.lower))
        pairs = [
            (higher[seed].get(one.metric), lower[seed].get(one.metric)) for seed in sorted(set(higher) & set(lower))
        ]
        differences = [a - b for a, b in pairs if a is not None and b is not None]
        if not differences:
            continue
        error = stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else None
        rows.append(
            {
                "claim": one.claim,
                "higher": one.higher,
                "lower": one.lower,
                "metric": one.metric,
                "seeds": len(differences),
                "difference": fmean(differences),
                "standard_error": error,
                "verdict": _verdict(differences, error),
            }
        )
    return rows


def _verdict(differences: Sequence[float], error: float | None) -> str:
    if error is None or len(differences) < LEAST_SEEDS:
        return "too few seeds"
    return "shown" if fmean(differences) > SHOWN_ABOVE * error else "not shown"
