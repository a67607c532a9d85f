"""Small files of the report that `dvc metrics` and `dvc plots` show: named here for `dvc.yaml`, written by the report stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

REPORT_FOLDER = "reports"
METRICS_FOLDER = f"{REPORT_FOLDER}/metrics"
"""Folder with one file of figures per benchmark run, and that of the pseudo labels."""
LEARNING, SCALING = "curves/learning", "curves/data_scaling.json"
BENCHMARK_CURVES, LABEL_CURVE = "curves/precision_recall", "curves/pseudo_labels.json"


def report_plots(
    pretrainings: Iterable[str], judged: Iterable[str], *, labels: bool = True
) -> dict[str, Mapping[str, Any]]:
    """Return DVC's definitions of the report's plots, those of which there is something to show.

    Args:
        pretrainings: names; repeats of other seeds are left out.
        judged: benchmark runs of HICO-DET whose precision over recall is plotted.
        labels: whether pseudo labels are judged.
    """
    runs = [name for name in pretrainings if "-seed" not in name]
    plots = {
        "learning_curves": {
            "title": "Pre-training: loss, mean of 25 steps",
            "x": "step",
            "y": {f"{REPORT_FOLDER}/{LEARNING}/{run}.json": "loss" for run in runs},
        },
        "data_scaling": {
            "title": "More data: zero-shot HICO-DET mAP",
            "template": "bar_horizontal",
            "x": {f"{REPORT_FOLDER}/{SCALING}": "full"},
            "y": {f"{REPORT_FOLDER}/{SCALING}": "data"},
        },
        "precision_over_recall": {
            "title": "HICO-DET: precision over recall, mean of classes",
            "x": "recall",
            "y": {f"{REPORT_FOLDER}/{BENCHMARK_CURVES}/{run}.json": "precision" for run in judged},
        },
        "pseudo_labels": {
            "title": "Pseudo labels: precision over recall",
            "x": "recall",
            "y": {f"{REPORT_FOLDER}/{LABEL_CURVE}": "precision"} if labels else {},
        },
    }
    return {name: plot for name, plot in plots.items() if plot["y"]}
