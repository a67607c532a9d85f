"""Figures and curves of the report as small JSON files, which `dvc metrics` and `dvc plots` show and compare between commits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlip_assets.evaluation.headlines import HEADLINES
from rlip_assets.lineage.report_files import BENCHMARK_CURVES, LABEL_CURVE, LEARNING, SCALING
from rlip_assets.report.artifacts import read_rows
from rlip_assets.report.plots import smooth_losses
from rlip_assets.report.runs import RARE
from rlip_assets.storage.files import write_json

POINTS = np.linspace(0, 1, 51)
"""Recalls at which curves of classes are averaged."""
CALIBRATION_ERRORS = ("expected_calibration_error", "expected_calibration_error_uncalibrated")
LABEL_FIGURES = (
    "operating_threshold",
    "precision",
    "recall",
    "f1",
    "expected_calibration_error",
    "expected_calibration_error_uncalibrated",
)


def write_metrics(facts: Mapping[str, Any], folder: Path) -> None:
    """Write the figures (fractions; those that a protocol does not give are left out) of each benchmark run and of the pseudo labels."""
    quality = facts["label_quality"]
    files = {
        row["run"]: {name: row["figures"].get(name) for name in RARE}
        for part in ("scaling", "fusion")
        for row in facts[part]
    }
    files |= {row["run"]: row["figures"] for row in facts["results"]}
    if quality:
        files["label_quality"] = {name: quality.get(name) for name in LABEL_FIGURES}
    for name, figures in files.items():
        known = {_plain(title): value for title, value in figures.items() if value is not None}
        write_json(folder / f"{name}.json", known)


def write_curves(
    facts: Mapping[str, Any],
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    benchmarks: Path,
    output: Path,
    runs: Iterable[str],
) -> None:
    """Write learning curves (`histories`: one row per step of each pre-training), data scaling, and precision over recall of `runs` on
    HICO-DET and of the pseudo labels."""
    for run, rows in histories.items():
        losses = zip(rows, smooth_losses(rows), strict=True)
        write_json(output / LEARNING / f"{run}.json", [{"step": row["step"], "loss": loss} for row, loss in losses])
    scaling = [{"data": row["data"], "full": row["figures"]["Full"]} for row in facts["scaling"]]
    write_json(output / SCALING, scaling)
    for run in runs:
        if (benchmarks / run / "curves.parquet").is_file():
            write_json(output / BENCHMARK_CURVES / f"{run}.json", mean_curve(benchmarks / run, "hico_det"))
    if facts["label_quality"] is None:
        return
    points = [point for point in facts["label_quality"]["curve"] if None not in (point["precision"], point["recall"])]
    write_json(
        output / LABEL_CURVE, [{key: point[key] for key in ("threshold", "recall", "precision")} for point in points]
    )


def mean_curve(run: Path, dataset: str) -> list[dict[str, float]]:
    """Return precision over recall of a benchmark run by the benchmark's first protocol, averaged over classes.

    The precision of a class at a recall is the best at that recall or a higher one, and 0 beyond the last (as AP is defined).
    """
    headline = HEADLINES[dataset]

    def chosen(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row for row in rows if (row["protocol"], row["task"]) == (headline.protocol, headline.task)]

    classes = chosen(read_rows(run / "per_class.parquet", ["protocol", "task", "positives"]))
    judged = sum(row["positives"] > 0 for row in classes)
    total = np.zeros(len(POINTS))
    for row in chosen(read_rows(run / "curves.parquet")):
        recall, precision = np.asarray(row["recall"]), np.asarray(row["precision"])
        best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        total += best[np.searchsorted(recall, POINTS - 1e-9)]
    mean = total / max(judged, 1)
    return [{"recall": round(float(r), 4), "precision": float(p)} for r, p in zip(POINTS, mean, strict=True)]


def _plain(title: str) -> str:
    """Return a column title as the name of a metric, such as `ap_role_s1` for "AP role S1"."""
    return title.lower().replace("@", "_").replace("-", "_").replace(" ", "_")
