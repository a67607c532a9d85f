"""Drift: how far the labels of a bucket are from those before them, by the figures of their manifests.

* yield: labels per image, now by before, less one.
* confidence, relations: total variation distance between the distributions then and now, 0 (equal) to 1 (nothing in common).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlip_assets.lineage.params.labels import DriftParams

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Drift:
    """Distances between two results; None where the figures do not tell."""

    yields: float | None
    confidence: float | None
    relations: float | None

    @classmethod
    def between(cls, before: Figures, now: Figures, counted: str) -> Drift:
        """From the figures of two manifests of one item; `counted` is what the stage makes ("labels")."""
        then, today = _ratio(before, counted), _ratio(now, counted)
        return cls(
            yields=None if not then or today is None else today / then - 1,
            confidence=_distance(_numbered(before), _numbered(now)),
            relations=_distance(before.get("by_relation"), now.get("by_relation")),
        )

    def judge(self, limits: DriftParams) -> tuple[bool, str]:
        """Return whether all distances are within their limits, and all of them in words."""
        found = {"yield": (self.yields, limits.yields), "confidence": (self.confidence, limits.confidence),
                 "relations": (self.relations, limits.relations)}  # fmt: skip
        words = [
            f"{name} {'unknown' if value is None else f'{value:+.3f}' if name == 'yield' else f'{value:.3f}'} (limit {limit:g})"
            for name, (value, limit) in found.items()
        ]
        return all(value is None or abs(value) <= limit for value, limit in found.values()), ", ".join(words)


def _ratio(figures: Figures, counted: str) -> float | None:
    images, made = figures.get("images"), figures.get(counted)
    return made / images if images and isinstance(made, int | float) else None


def _numbered(figures: Figures) -> dict[str, float] | None:
    deciles = figures.get("confidence_deciles")
    return {str(n): count for n, count in enumerate(deciles)} if isinstance(deciles, Sequence) else None


def _distance(before: Mapping[str, float] | None, now: Mapping[str, float] | None) -> float | None:
    """Half the sum of differences between two distributions, given as counts."""
    if not before or not now:
        return None
    then, today = sum(before.values()), sum(now.values())
    if not then or not today:
        return None if then == today else 1.0
    return sum(abs(before.get(key, 0) / then - now.get(key, 0) / today) for key in sorted({*before, *now})) / 2
