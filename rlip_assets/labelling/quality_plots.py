"""Plots of how true pseudo labels are: on one figure for the log, or one by one in the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rlip_assets.storage.plotting import COLORS, GUIDE, LEGEND, as_image, new_figure

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


def draw_reliability(axes: Axes, curve: Sequence[Mapping[str, float]]) -> None:
    """Draw the share of right labels over their confidence, in tenths with their numbers; honest confidences lie on the diagonal."""
    axes.plot([0, 1], [0, 1], label="honest", **GUIDE)
    confidence, right = ([point[name] for point in curve] for name in ("confidence", "right"))
    axes.plot(confidence, right, marker="o", color=COLORS[0], label="pseudo labels")
    for x, y, point in zip(confidence, right, curve, strict=True):
        axes.annotate(f"{point['labels']:.0f}", (x, y), (3, -9), textcoords="offset points", fontsize=7)
    axes.set(xlabel="confidence", ylabel="share of right labels", xlim=(0, 1), ylim=(0, 1))
    axes.set_title("Reliability, with the number of labels")


def quality_picture(report: Mapping[str, Any]) -> Image:
    """Return both plots side by side."""
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    draw_thresholds(left, report["curve"], report["operating_threshold"])
    draw_reliability(right, report["calibration"]["curve"])
    for axes in (left, right):
        axes.legend(**LEGEND)
    return as_image(figure)
