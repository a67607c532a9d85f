"""The report's plots, drawn from its facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from rlip_assets.labelling.quality_plots import draw_losses, draw_reliability, draw_thresholds
from rlip_assets.storage.plotting import COLORS, plot_file

ZERO_SHOT = "zero-shot mAP, %"
HEADROOM = 0.4
"""Free height above the tallest bar as a share of the bars' range: room for the legend."""


def scaling_plot(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Plot zero-shot mAP (percent) by pre-training mix: all classes, and each group of verbs."""
    names = dict.fromkeys(key for row in rows for key in row["figures"])
    with plot_file(file, "More data, zero-shot HICO-DET", ylabel=ZERO_SHOT) as axes:
        for name, color in zip(names, cycle(COLORS), strict=False):
            values = [in_percent(row["figures"].get(name)) for row in rows]
            axes.plot(range(len(rows)), values, marker="o", color=color, label=name)
        axes.set_xticks(range(len(rows)), [row["data"] for row in rows])
        axes.set_ylim(bottom=0)


def fusion_plot(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Plot zero-shot mAP (percent) of ALIF and late fusion as groups of bars."""
    columns = ("Full", "Rare", "Non-rare")
    width = 0.8 / max(1, len(rows))
    with plot_file(file, "Fusion, same data", grid=None, ylabel=ZERO_SHOT) as axes:
        for index, (row, color) in enumerate(zip(rows, COLORS, strict=False)):
            places = [column + index * width for column in range(len(columns))]
            values = [in_percent(row["figures"].get(column)) for column in columns]
            bars = axes.bar(places, values, width, color=color, label=row["fusion"])
            axes.bar_label(bars, fmt="%.1f", fontsize=8)
        axes.set_xticks([column + width * (len(rows) - 1) / 2 for column in range(len(columns))], columns)
        axes.margins(y=HEADROOM)


def learning_plot(histories: Mapping[str, Sequence[Mapping[str, float]]], file: Path) -> None:
    """Plot the training loss by step, averaged over 25 steps, one line per run."""
    with plot_file(file, "Pre-training", xlabel="step", ylabel="training loss") as axes:
        for (name, rows), color in zip(histories.items(), cycle(COLORS), strict=False):
            axes.plot([row["step"] for row in rows], smooth_losses(rows), color=color, label=name)


def smooth_losses(rows: Sequence[Mapping[str, float]]) -> list[float]:
    """Return the training loss at each step as the mean of the last 25."""
    losses = [row["loss"] for row in rows]
    windows = (losses[max(0, i - 24) : i + 1] for i in range(len(losses)))
    return [sum(window) / len(window) for window in windows]


def precision_recall_plot(curve: Sequence[Mapping[str, float]], threshold: float | None, file: Path) -> None:
    """Plot precision and recall of the pseudo labels over the confidence threshold."""
    with plot_file(file) as axes:
        draw_thresholds(axes, curve, threshold)


def reliability_plot(quality: Mapping[str, Any], file: Path) -> None:
    """Plot the reliability of the pseudo labels' confidences, with and without their calibration if they have one."""
    with plot_file(file) as axes:
        draw_reliability(axes, quality["calibration"]["curve"], quality.get("uncalibrated", {}).get("curve", ()))


def losses_plot(quality: Mapping[str, Any], file: Path) -> None:
    """Plot what becomes of the true relations of each dataset."""
    with plot_file(file, grid=None) as axes:
        draw_losses(axes, quality["losses"], quality.get("operating_threshold"))


def in_percent(value: float | None) -> float:
    """Return the percentage of a fraction; NaN, which plots leave out, for None."""
    return float("nan") if value is None else 100 * value
