"""Plots of how true pseudo labels are: on one figure for the log, or one by one in the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rlip_assets.labelling.lost_relations import OUTCOMES
from rlip_assets.storage.plotting import (
    COLORS,
    GREEN,
    GUIDE,
    LEGEND,
    ORANGE,
    PINK,
    SKY,
    VERMILLION,
    as_image,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image


def draw_thresholds(axes: Axes, curve: Sequence[Mapping[str, float | None]], threshold: float | None) -> None:
    """Draw precision, recall and F1 (fractions) over the confidence threshold, and the operating threshold."""
    thresholds = [point["threshold"] for point in curve]
    for name, color in zip(("precision", "recall", "f1"), COLORS, strict=False):
        values = [math.nan if (value := point.get(name)) is None else value for point in curve]
        axes.plot(thresholds, values, color=color, label=name)  # type: ignore[arg-type]
    if threshold is not None:
        axes.axvline(threshold, label=f"operating threshold {threshold:.2f}", **GUIDE)
    axes.set(xlabel="confidence threshold", ylim=(0, 1), title="Pseudo labels against the truth")


def draw_reliability(
    axes: Axes, curve: Sequence[Mapping[str, float]], before: Sequence[Mapping[str, float]] = ()
) -> None:
    """Draw the share of right labels over their confidence, in bins with their numbers; calibrated confidences lie on the diagonal.

    `before`: the same without calibration.
    """
    axes.plot([0, 1], [0, 1], label="calibrated", **GUIDE)
    if before:
        points = ([point[name] for point in before] for name in ("confidence", "right"))
        axes.plot(*points, marker=".", color=COLORS[1], label="without calibration")
    confidence, right = ([point[name] for point in curve] for name in ("confidence", "right"))
    axes.plot(confidence, right, marker="o", color=COLORS[0], label="pseudo labels")
    for x, y, point in zip(confidence, right, curve, strict=True):
        axes.annotate(f"{point['labels']:.0f}", (x, y), (3, -9), textcoords="offset points", fontsize=7)
    axes.set(xlabel="confidence", ylabel="share of right labels", xlim=(0, 1), ylim=(0, 1))
    axes.set_title("Reliability, with the number of labels")


def draw_losses(axes: Axes, losses: Mapping[str, Mapping[str, int]]) -> None:
    """Draw one bar per dataset: which part of its true relations (percent) was found, and which was lost at each step."""
    places = range(len(losses))
    totals = [max(1, sum(counts.values())) for counts in losses.values()]
    left = [0.0] * len(losses)
    for outcome, color in zip(OUTCOMES, (GREEN, SKY, PINK, ORANGE, VERMILLION), strict=True):
        counts = [row[outcome.replace(" ", "_")] for row in losses.values()]
        widths = [100 * count / total for count, total in zip(counts, totals, strict=True)]
        bars = axes.barh(places, widths, 0.6, left, color=color, label=outcome)
        axes.bar_label(
            bars, [f"{width:.0f}" if width >= 3 else "" for width in widths], label_type="center", fontsize=8
        )
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(places, list(losses))
    axes.set_ylim(-0.5, len(losses) + 0.5)  # room for the legend
    axes.set(xlim=(0, 100), xlabel="true relations, %", title="Where true relations are lost")


def quality_picture(report: Mapping[str, Any]) -> Image:
    """Return both plots side by side."""
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    draw_thresholds(left, report["curve"], report["operating_threshold"])
    draw_reliability(right, report["calibration"]["curve"])
    for axes in (left, right):
        axes.legend(**LEGEND)
    return as_image(figure)
