"""The goals on an H100, and what was measured. They are never adjusted to a measurement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Outcomes = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Goal:
    """A figure to reach. `measure` picks it from the outcomes; None where it was not measured."""

    text: str
    unit: str
    wanted: float
    measure: Callable[[Outcomes], float | None]
    at_most: bool = False

    def met(self, value: float) -> bool:
        """Return whether `value` reaches the goal."""
        return value <= self.wanted if self.at_most else value >= self.wanted


def figures(outcomes: Outcomes, check: str, column: str, *words: str) -> list[float]:
    """Return a column of those rows of a check that have it and whose names hold all of `words`."""
    return [
        float(row["figures"][column])
        for outcome in outcomes
        if outcome["name"] == check
        for row in outcome["rows"]
        if column in row["figures"] and all(word in row["name"] for word in words)
    ]


def _lowest(check: str, column: str, *words: str) -> Callable[[Outcomes], float | None]:
    return lambda outcomes: min(figures(outcomes, check, column, *words), default=None)


def _highest(check: str, column: str, *words: str) -> Callable[[Outcomes], float | None]:
    return lambda outcomes: max(figures(outcomes, check, column, *words), default=None)


GOALS = (
    Goal("kernel against the PyTorch form, slowest case", "times", 2.0, _lowest("kernel", "times PyTorch")),
    Goal("kernel's share of the copy bandwidth, lowest case", "share", 0.60, _lowest("kernel", "share of copy")),
    Goal("bf16 training step against fp32 eager", "times", 1.6, _lowest("training", "times fp32", "bf16")),
    Goal("matching's share of a training step, largest", "share", 0.05, _highest("training", "matching share"), True),
    Goal(
        "ParSeDA ResNet-50 forward at batch 8, slowest eager precision",
        "images/s",
        25.0,
        _lowest("network", "images/s", "ResNet-50", "batch 8"),
    ),
)
"""Each takes the strictest reading: the slowest of all cases that were measured."""


def judge(outcomes: Outcomes, judged: bool) -> list[dict[str, Any]]:
    """Return every goal with its measured value and whether it is met; nothing is met or missed in a dry run (`judged` False)."""
    result = []
    for goal in GOALS:
        value = goal.measure(outcomes)
        met = None if value is None or not judged else goal.met(value)
        bound = "at most" if goal.at_most else "at least"
        result.append(
            {"goal": goal.text, "bound": bound, "wanted": goal.wanted, "unit": goal.unit, "measured": value, "met": met}
        )
    return result
