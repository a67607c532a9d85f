"""The figures and curves that `dvc metrics` and `dvc plots` show are those of the artifacts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlip_assets.evaluation.headlines import HEADLINES
from rlip_assets.evaluation.stage import write_table
from rlip_assets.lineage.report_files import BENCHMARK_CURVES, METRICS_FOLDER, report_plots
from rlip_assets.report.dvc_files import mean_curve, write_curves, write_metrics

CURVE_RUNS = ("pretrain-vg_coco_o365", "finetune-hico_full")
POINT = {"threshold": 0.5, "precision": 0.75, "recall": 0.5, "f1": 0.6, "labels": 4}
FACTS: dict[str, Any] = {
    "results": [{"run": "finetune-v_coco", "figures": {"AP role S1": 0.5, "AP agent": None}}],
    "scaling": [{"run": "pretrain-vg", "data": "VG", "figures": {"Full": 0.1, "Non-rare": 0.2, "exact": 0.3}}],
    "fusion": [],
    "label_quality": {"precision": 0.75, "recall": None, "curve": [POINT, POINT | {"precision": None}], "labels": 4},
}


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def benchmark(folder: Path) -> Path:
    """Write classes and curves of three classes: one half found, one found late, one never; a fourth has no instances."""
    folder.mkdir(parents=True)
    one = {"protocol": HEADLINES["hico_det"].protocol, "task": HEADLINES["hico_det"].task}
    curves = [one | {"recall": [0.25, 0.5], "precision": [1.0, 0.5]}, one | {"recall": [1.0], "precision": [0.25]}]
    write_table(folder / "curves.parquet", [*curves, one | {"protocol": "other", "recall": [1.0], "precision": [1.0]}])
    write_table(folder / "per_class.parquet", [one | {"positives": count} for count in (4, 2, 3, 0)])
    return folder


def test_metrics_have_plain_names_and_leave_out_what_is_unknown(tmp_path: Path) -> None:
    write_metrics(FACTS, tmp_path)
    assert read(tmp_path / "finetune-v_coco.json") == {"ap_role_s1": 0.5}
    assert read(tmp_path / "pretrain-vg.json") == {"full": 0.1, "non_rare": 0.2}
    assert read(tmp_path / "label_quality.json") == {"precision": 0.75}


def test_a_mean_curve_counts_classes_that_were_never_found(tmp_path: Path) -> None:
    curve = {point["recall"]: point["precision"] for point in mean_curve(benchmark(tmp_path / "run"), "hico_det")}
    assert curve[0.0] == pytest.approx((1.0 + 0.25) / 3)
    assert curve[0.5] == pytest.approx((0.5 + 0.25) / 3)
    assert curve[0.52] == curve[1.0] == pytest.approx(0.25 / 3)


def test_every_file_that_the_pipeline_plots_is_written(tmp_path: Path) -> None:
    for run in CURVE_RUNS:
        benchmark(tmp_path / "benchmarks" / run)
    output = tmp_path / "reports"
    losses = {"vg": [{"step": 1, "loss": 4.0}, {"step": 2, "loss": 2.0}]}
    write_curves(FACTS, losses, tmp_path / "benchmarks", output, CURVE_RUNS)
    plots = report_plots(["vg", "vg-seed1", "vg_coco_o365"], CURVE_RUNS)
    named = {file for plot in plots.values() for file in plot["y"]}
    written = {file.relative_to(tmp_path).as_posix() for file in output.rglob("*.json")}
    assert named - written == {"reports/curves/learning/vg_coco_o365.json"}  # that training is not among these
    assert not written - named
    assert read(output / "curves/learning/vg.json") == [{"step": 1, "loss": 4.0}, {"step": 2, "loss": 3.0}]
    assert len(read(output / BENCHMARK_CURVES / f"{CURVE_RUNS[0]}.json")) == 51
    assert not METRICS_FOLDER.startswith("reports/curves")
