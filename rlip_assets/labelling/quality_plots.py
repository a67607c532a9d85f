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
    axes.set(xlabel="confidence threshold", ylabel="share", ylim=(0, 1), title="Pseudo labels against the truth")


def draw_reliability(
    axes: Axes, curve: Sequence[Mapping[str, float]], before: Sequence[Mapping[str, float]] = ()
) -> None:
    """Draw the share of right labels over their confidence, in bins with their numbers; confidences that hold lie on the diagonal.

    `before`: the scores of calibrated confidences.
    """
    axes.plot([0, 1], [0, 1], label="confidence = share of right labels", **GUIDE)
    if before:
        points = ([point[name] for point in before] for name in ("confidence", "right"))
        axes.plot(*points, marker=".", color=COLORS[1], label="scores before calibration")
    confidence, right = ([point[name] for point in curve] for name in ("confidence", "right"))
    axes.plot(
        confidence, right, marker="o", color=COLORS[0], label="calibrated" if before else "scores, not calibrated"
    )
    for x, y, point in zip(confidence, right, curve, strict=True):
        axes.annotate(f"{point['labels']:,}", (x, y), (3, -9), textcoords="offset points", fontsize=7)
    axes.set(xlabel="confidence", ylabel="share of right labels", xlim=(0, 1), ylim=(0, 1))
    axes.set_title("Reliability, with the number of labels per bin")


def draw_losses(axes: Axes, losses: Mapping[str, Mapping[str, int]], threshold: float | None = None) -> None:
    """Draw one bar per dataset: which part of its true relations (percent) was found, and which was lost at each step of the pipeline.

    Args:
        losses: dataset -> outcome, with underscores -> number of true relations.
        threshold: confidence from which a relation counts as found.
    """
    totals = [sum(counts.values()) for counts in losses.values()]
    left = [0.0] * len(losses)
    for outcome, color in zip(OUTCOMES, (GREEN, SKY, PINK, ORANGE, VERMILLION), strict=True):
        counts = [row[outcome.replace(" ", "_")] for row in losses.values()]
        widths = [100 * count / max(1, total) for count, total in zip(counts, totals, strict=True)]
        bars = axes.barh(range(len(losses)), widths, 0.6, left, color=color, label=outcome)
        axes.bar_label(
            bars, [f"{width:.0f}" if width >= 1.5 else "" for width in widths], label_type="center", fontsize=8
        )
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(losses)), [f"{name}\n({total:,})" for name, total in zip(losses, totals, strict=True)])
    axes.set_ylim(len(losses) - 0.5, -1.1)  # the first dataset on top, below the legend
    at = "" if threshold is None else f" at threshold {threshold:.2f}"
    axes.set(
        xlim=(0, 100), xlabel="share of the true relations that happen, %", title=f"What becomes of true relations{at}"
    )
    axes.legend(**LEGEND, ncols=len(OUTCOMES), loc="upper center", columnspacing=0.9, handlelength=1, handletextpad=0.4)


def quality_picture(report: Mapping[str, Any]) -> Image:
    """Return both plots side by side."""
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    draw_thresholds(left, report["curve"], report["operating_threshold"])
    draw_reliability(right, report["calibration"]["curve"])
    for axes in (left, right):
        axes.legend(**LEGEND)
    return as_image(figure)
