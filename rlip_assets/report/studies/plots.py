"""The plots of a study, drawn from its facts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from rlip_assets.report.plots import COLORS, SIZE, in_percent, plt, save
from rlip_assets.report.repeats import repeats


def arms_plot(facts: Mapping[str, Any], file: Path) -> None:
    """Zero-shot mAP (percent) by arm: a bar for the mean, a dot for each seed, and a line through the arms of one seed."""
    figure, axes = plt.subplots(figsize=SIZE)
    arms = [row["arm"] for row in facts["arms"]]
    seeds = [repeats(facts["runs"], arm) for arm in arms]
    values = [[in_percent(run["zero_shot_mAP"]) for run in runs.values()] for runs in seeds]
    axes.bar(range(len(arms)), [fmean(own) for own in values], width=0.6, color=COLORS[5], alpha=0.5)
    for line in zip(*values, strict=True):
        axes.plot(range(len(arms)), line, color="#4d4d4d", marker="o", markersize=4, linewidth=0.7)
    axes.set_xticks(range(len(arms)), arms)
    axes.set_ylabel("zero-shot mAP, %")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)
    axes.set_title("Mean (bar) and each seed (line)")
    save(figure, file)


def learning_plot(facts: Mapping[str, Any], file: Path) -> None:
    """Zero-shot mAP (percent) of the evaluations on the way, by step: a line a training, a colour an arm."""
    figure, axes = plt.subplots(figsize=SIZE)
    for index, row in enumerate(facts["arms"]):
        for number, points in repeats(facts["learning"], row["arm"]).items():
            steps, values = zip(*points, strict=True)
            label = row["arm"] if number == 0 else None
            axes.plot(steps, [in_percent(value) for value in values], color=COLORS[index], marker=".", label=label)
    axes.set_xlabel("step")
    axes.set_ylabel("zero-shot mAP, %")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.3)
    axes.set_title("Evaluations on the way, each seed")
    save(figure, file)
