"""The report's facts: read from the artifacts of a run, and the only thing that tables, plots and pages are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlip_assets.evaluation.published import published_figures
from rlip_assets.lineage.params.training import TrainingParams
from rlip_assets.report.artifacts import read_json
from rlip_assets.report.repeats import Intervals, Metrics, compare, summary
from rlip_assets.report.runs import (
    COMPARISONS,
    HICO,
    RARE,
    ROWS,
    TITLES,
    UNSEEN,
    Row,
    fusion_runs,
    result_rows,
    scaling_runs,
    setting_runs,
    start_of,
)


def gather(
    benchmarks: Path,
    label_quality: Path | None,
    predicted: Mapping[str, str] | None = None,
    training: TrainingParams | None = None,
) -> dict[str, Any]:
    """All facts of a run.

    Args:
        benchmarks: folder with one folder per run, each with `metrics.json` and `intervals.json` (fractions).
        label_quality: folder with `label_quality.json`; None where labels were not judged.
        predicted: run of the `predict` stage -> the checkpoint that predicted, one more row each.
        training: the trainings of the profile; by default those of the micro profile.

    Returns:
        JSON-ready facts; figures are fractions 0..1, null where a protocol gives none.
    """
    folders = [folder for folder in sorted(benchmarks.iterdir()) if folder.is_dir()]
    metrics, intervals = (
        {folder.name: read_json(folder / file) for folder in folders} for file in ("metrics.json", "intervals.json")
    )
    training = training or TrainingParams()
    rows = [row for row in result_rows(training) if row.run in metrics]
    rows += [_predicted(run, checkpoint, metrics[run]) for run, checkpoint in (predicted or {}).items()]
    return {
        "results": [
            {
                "setting": row.title,
                "run": row.run,
                "start": (predicted or {}).get(row.run) or start_of(training, row.run),
                "protocol": next(iter(row.columns.values())).rpartition("/")[0],
                **summary(metrics, row.run, row.columns, intervals),
            }
            for row in rows
        ],
        "scaling": [
            {"data": title, "run": run, **_zero_shot(metrics, run, intervals)}
            for title, run in scaling_runs(training)
            if run in metrics
        ],
        "fusion": [
            {"fusion": title, "run": run, **_zero_shot(metrics, run, intervals)}
            for title, run in fusion_runs(training, metrics)
        ],
        "comparisons": compare(metrics, COMPARISONS),
        "errors": _errors(benchmarks, rows),
        "published": _published(metrics, setting_runs(training)),
        "label_quality": read_json(label_quality / "label_quality.json") if label_quality else None,
        "metrics": metrics,
    }


def _zero_shot(metrics: Metrics, run: str, intervals: Intervals) -> dict[str, Any]:
    """Mean AP of a setting without fine-tuning: full, rare, non-rare and by verb group where the benchmark has groups."""
    prefix = f"{HICO}/verbs_"
    groups = {name.removeprefix(prefix): name for name in metrics[run] if name.startswith(prefix)}
    return summary(metrics, run, RARE | groups, intervals)


def _errors(benchmarks: Path, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the shares of the causes of errors, one row per setting of the results table."""
    return [
        {"setting": row.title, "figures": read_json(benchmarks / row.run / "errors.json")["shares"], "spread": {}}
        for row in rows
    ]


def _predicted(run: str, checkpoint: str, figures: Mapping[str, float | None]) -> Row:
    """Return the row of a checkpoint that predicted a benchmark, with the columns of the benchmark's other rows."""
    likes = [row for row in (*ROWS, Row("HICO-DET", "", UNSEEN)) if set(row.columns.values()) <= set(figures)]
    benchmark = next(iter(likes[-1].columns.values())).partition("/")[0]
    return Row(f"{TITLES[benchmark]} by {Path(checkpoint).name}", run, likes[-1].columns)


def _published(metrics: Metrics, runs: Mapping[str, str]) -> list[dict[str, Any]]:
    """The published figures, one entry per benchmark setting: `rows` in percent as published, `ours` (fractions) where `run` was made."""
    table = published_figures()
    entries = []
    for key, setting in table.settings.items():
        rows, run = table.of_setting(key), runs.get(key, "")
        names = list(dict.fromkeys(name for row in rows for name in row["figures"]))
        ours = {name: metrics.get(run, {}).get(f"{setting.protocol}/{name}") for name in names}
        entries.append({"setting": setting.title, "protocol": setting.protocol, "rows": rows, "run": run, "ours": ours})
    return entries
