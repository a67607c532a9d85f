"""The plots of a study, drawn from its facts."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from statistics import fmean
from typing import Any

from rlip_assets.report.plots import ZERO_SHOT, in_percent
from rlip_assets.report.repeats import repeats
from rlip_assets.storage.plotting import COLORS, SKY, plot_file


def arms_plot(facts: Mapping[str, Any], file: Path) -> None:
    """Plot the study's first figure (percent) by arm: a bar for the mean, a dot per seed, and a line through the arms of each seed."""
    arms = [row["arm"] for row in facts["arms"]]
    runs = [repeats(facts["runs"], arm).values() for arm in arms]
    plotted = facts.get("plotted", "zero_shot_mAP")
    values = [[in_percent(run[plotted]) for run in own] for own in runs]
    label = ZERO_SHOT if plotted == "zero_shot_mAP" else f"mAP of {plotted} classes, %"
    with plot_file(file, "Mean (bar) and each seed (line)", grid="y", ylabel=label) as axes:
        axes.bar(range(len(arms)), [fmean(own) for own in values], width=0.6, color=SKY, alpha=0.5)
        for line in zip(*values, strict=True):
            axes.plot(range(len(arms)), line, color="#4d4d4d", marker="o", markersize=4, linewidth=0.7)
        axes.set_xticks(range(len(arms)), arms)
        axes.set_ylim(bottom=0)


def evaluations_plot(facts: Mapping[str, Any], file: Path) -> None:
    """Plot zero-shot mAP (percent) during training by step: a line per training, a colour per arm."""
    with plot_file(file, "Evaluations during training, each seed", xlabel="step", ylabel=ZERO_SHOT) as axes:
        for row, color in zip(facts["arms"], cycle(COLORS), strict=False):
            for number, points in repeats(facts["learning"], row["arm"]).items():
                steps, values = zip(*points, strict=True)
                label = row["arm"] if number == 0 else None
                axes.plot(steps, [in_percent(value) for value in values], color=color, marker=".", label=label)
        axes.set_ylim(bottom=0)
