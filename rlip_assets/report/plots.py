"""The report's plots, drawn from its facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from rlip_assets.storage.files import atomic_file

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
SIZE = (5.6, 3.6)


def save(figure: plt.Figure, file: Path) -> None:
    """Write a figure as PNG with the same bytes every time, and close it."""
    figure.tight_layout()
    with atomic_file(file) as temporary:
        figure.savefig(temporary, format="png", dpi=130, metadata={"Software": None})
    plt.close(figure)


def scaling_plot(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Zero-shot mAP (percent) by pre-training mix: all classes, and each group of verbs."""
    figure, axes = plt.subplots(figsize=SIZE)
    for index, name in enumerate(dict.fromkeys(key for row in rows for key in row["figures"])):
        values = [in_percent(row["figures"].get(name)) for row in rows]
        axes.plot(range(len(rows)), values, marker="o", color=COLORS[index % len(COLORS)], label=name)
    axes.set_xticks(range(len(rows)), [row["data"] for row in rows])
    axes.set_ylabel("zero-shot mAP, %")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.3)
    axes.set_title("More data, zero-shot HICO-DET")
    save(figure, file)


def fusion_plot(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Zero-shot mAP (percent) of ALIF and late fusion after equal steps."""
    figure, axes = plt.subplots(figsize=SIZE)
    columns = ("Full", "Rare", "Non-rare")
    width = 0.8 / max(1, len(rows))
    for index, row in enumerate(rows):
        places = [column + index * width for column in range(len(columns))]
        bars = axes.bar(
            places,
            [in_percent(row["figures"].get(c)) for c in columns],
            width,
            color=COLORS[index],
            label=row["fusion"],
        )
        axes.bar_label(bars, fmt="%.1f", fontsize=8)
    axes.set_xticks([column + width * (len(rows) - 1) / 2 for column in range(len(columns))], columns)
    axes.set_ylabel("zero-shot mAP, %")
    axes.legend(frameon=False)
    axes.set_title("Fusion, same data")
    save(figure, file)


def learning_plot(histories: Mapping[str, Sequence[Mapping[str, float]]], file: Path) -> None:
    """Training loss by step, smoothed over 25 steps, one line a run."""
    figure, axes = plt.subplots(figsize=SIZE)
    for index, (name, rows) in enumerate(histories.items()):
        losses = [row["loss"] for row in rows]
        smooth = [sum(losses[max(0, i - 24) : i + 1]) / len(losses[max(0, i - 24) : i + 1]) for i in range(len(losses))]
        axes.plot([row["step"] for row in rows], smooth, color=COLORS[index % len(COLORS)], label=name)
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.3)
    axes.set_title("Pre-training")
    save(figure, file)


def precision_recall_plot(curve: Sequence[Mapping[str, float]], threshold: float | None, file: Path) -> None:
    """Precision and recall (fractions) of the pseudo labels over the confidence threshold."""
    figure, axes = plt.subplots(figsize=SIZE)
    thresholds = [point["threshold"] for point in curve]
    for index, name in enumerate(("precision", "recall", "f1")):
        if all(name in point for point in curve):
            axes.plot(thresholds, [point[name] for point in curve], color=COLORS[index], label=name)
    if threshold is not None:
        axes.axvline(threshold, color="#767676", linestyle="--", label=f"operating threshold {threshold:.2f}")
    axes.set_xlabel("confidence threshold")
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.3)
    axes.set_title("Pseudo labels against the truth")
    save(figure, file)


def reliability_plot(curve: Sequence[Mapping[str, float]], file: Path) -> None:
    """Share of right pseudo labels (fraction) over their confidence, in tenths; honest confidences lie on the diagonal."""
    figure, axes = plt.subplots(figsize=SIZE)
    axes.plot([0, 1], [0, 1], color="#767676", linestyle="--", label="honest")
    confidence, right = ([point[name] for point in curve] for name in ("confidence", "right"))
    axes.plot(confidence, right, marker="o", color=COLORS[0], label="pseudo labels")
    for x, y, point in zip(confidence, right, curve, strict=True):
        axes.annotate(f"{point['labels']:.0f}", (x, y), (3, -9), textcoords="offset points", fontsize=7)
    axes.set_xlabel("confidence")
    axes.set_ylabel("share of right labels")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.3)
    axes.set_title("Reliability, with the number of labels")
    save(figure, file)


def in_percent(value: float | None) -> float:
    """Percent of a fraction; none is not a number, which plots leave out."""
    return float("nan") if value is None else 100 * value
