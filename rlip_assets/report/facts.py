"""The report's facts: read from the artifacts of a run, and the only thing that tables, plots and pages are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlip_assets.evaluation.headlines import HEADLINES
from rlip_assets.evaluation.published import published_figures
from rlip_assets.report.artifacts import read_json
from rlip_assets.report.repeats import Comparison, Metrics, compare, summary

HICO, V_COCO, OPEN_IMAGES = (HEADLINES[name].protocol for name in ("hico_det", "v_coco", "open_images"))


@dataclass(frozen=True)
class Row:
    """One line of the results table.

    Attributes:
        title: setting, as papers call it.
        run: benchmark partition whose metrics it shows.
        columns: column title to metric name.
    """

    title: str
    run: str
    columns: Mapping[str, str]


def _hico(*groups: tuple[str, str]) -> dict[str, str]:
    return {title: f"{HICO}/{figure}" for title, figure in groups}


RARE = _hico(("Full", "full"), ("Rare", "rare"), ("Non-rare", "non_rare"))
UNSEEN = _hico(("Full", "full"), ("Unseen", "unseen"), ("Seen", "seen"))
ROWS = (
    Row("HICO-DET zero-shot (NF)", "pretrain-vg_coco_o365", RARE),
    Row("HICO-DET few-shot 1 %", "finetune-hico_1", RARE),
    Row("HICO-DET few-shot 10 %", "finetune-hico_10", RARE),
    Row("HICO-DET fully fine-tuned", "finetune-hico_full", RARE),
    Row("HICO-DET UC-RF", "finetune-hico_uc_rf", UNSEEN),
    Row("HICO-DET UC-NF", "finetune-hico_uc_nf", UNSEEN),
    Row(
        "V-COCO",
        "finetune-v_coco",
        {
            "AP role S1": f"{V_COCO}/role_ap_s1_24",
            "AP role S2": f"{V_COCO}/role_ap_s2_24",
            "AP agent": f"{V_COCO}/agent_ap",
        },
    ),
    Row(
        "Open Images v6",
        "finetune-open_images",
        {
            "R@50": f"{OPEN_IMAGES}/recall_50",
            "wmAP rel": f"{OPEN_IMAGES}/wmap_rel",
            "wmAP phr": f"{OPEN_IMAGES}/wmap_phr",
            "score_wtd": f"{OPEN_IMAGES}/score_wtd",
        },
    ),
)
TITLES = {"hico_det": "HICO-DET", "v_coco": "V-COCO", "open_images": "Open Images v6"}
SETTING_RUNS = {
    "hico_det_zero_shot": "pretrain-vg_coco_o365",
    "hico_det_few_shot_1": "finetune-hico_1",
    "hico_det_few_shot_10": "finetune-hico_10",
    "hico_det_full": "finetune-hico_full",
    "hico_det_uc_rf": "finetune-hico_uc_rf",
    "hico_det_uc_nf": "finetune-hico_uc_nf",
    "v_coco": "finetune-v_coco",
    "open_images": "finetune-open_images",
    "open_images_predicate": "finetune-open_images",
}
"""Setting of the published figures -> the benchmark partition that is of this setting."""
SCALING = (
    ("VG", "pretrain-vg"),
    ("VG + COCO", "pretrain-vg_coco"),
    ("VG + COCO + Objects365", "pretrain-vg_coco_o365"),
    ("VG, as many steps as all three", "pretrain-vg_equal_steps"),
)
FUSION = (
    ("ALIF", "pretrain-vg_coco_o365"),
    ("late fusion, equal steps", "pretrain-late_vg_coco_o365"),
    ("late fusion, equal seconds", "pretrain-late_equal_seconds"),
)
COMPARISONS = (
    Comparison("More data helps zero-shot", "pretrain-vg_coco_o365", "pretrain-vg", f"{HICO}/full"),
    Comparison(
        "More data helps zero-shot, equal steps", "pretrain-vg_coco_o365", "pretrain-vg_equal_steps", f"{HICO}/full"
    ),
    Comparison("Pseudo-labelled COCO helps zero-shot", "pretrain-vg_coco", "pretrain-vg", f"{HICO}/full"),
    Comparison("All training images beat 10 %", "finetune-hico_full", "finetune-hico_10", f"{HICO}/full"),
    Comparison("10 % of the training images beat 1 %", "finetune-hico_10", "finetune-hico_1", f"{HICO}/full"),
    Comparison("ALIF beats late fusion, equal steps", FUSION[0][1], FUSION[1][1], f"{HICO}/full"),
    Comparison("ALIF beats late fusion, equal seconds", FUSION[0][1], FUSION[2][1], f"{HICO}/full"),
)


def gather(benchmarks: Path, label_quality: Path, predicted: Mapping[str, str] | None = None) -> dict[str, Any]:
    """All facts of a run.

    Args:
        benchmarks: folder with one folder per run, each with `metrics.json` (fractions).
        label_quality: folder with `label_quality.json`.
        predicted: run of the `predict` stage -> the checkpoint that predicted, one more row each.

    Returns:
        JSON-ready facts; figures are fractions 0..1, null where a protocol gives none.
    """
    metrics = {
        folder.name: read_json(folder / "metrics.json") for folder in sorted(benchmarks.iterdir()) if folder.is_dir()
    }
    rows = [row for row in ROWS if row.run in metrics]
    rows += [_predicted(run, checkpoint, metrics[run]) for run, checkpoint in (predicted or {}).items()]
    return {
        "results": [
            {
                "setting": row.title,
                "run": row.run,
                "protocol": next(iter(row.columns.values())).rpartition("/")[0],
                **summary(metrics, row.run, row.columns),
            }
            for row in rows
        ],
        "scaling": [
            {"data": title, "run": run, **_zero_shot(metrics, run)} for title, run in SCALING if run in metrics
        ],
        "fusion": [
            {"fusion": title, "run": run, **_zero_shot(metrics, run)} for title, run in FUSION if run in metrics
        ],
        "comparisons": compare(metrics, COMPARISONS),
        "errors": _errors(benchmarks, rows),
        "published": _published(metrics),
        "label_quality": read_json(label_quality / "label_quality.json"),
        "metrics": metrics,
    }


def _zero_shot(metrics: Metrics, run: str) -> dict[str, Any]:
    """Mean AP of a setting without fine-tuning: full, rare, non-rare and by verb group where the benchmark has groups."""
    prefix = f"{HICO}/verbs_"
    groups = {name.removeprefix(prefix): name for name in metrics[run] if name.startswith(prefix)}
    return summary(metrics, run, RARE | groups)


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
    return Row(f"{TITLES[benchmark]} by {checkpoint}", run, likes[-1].columns)


def _published(metrics: Metrics) -> list[dict[str, Any]]:
    """The published figures, one entry per benchmark setting: `rows` in percent as published, `ours` (fractions) where `run` was made."""
    table = published_figures()
    entries = []
    for key, setting in table.settings.items():
        rows, run = table.of_setting(key), SETTING_RUNS.get(key, "")
        names = list(dict.fromkeys(name for row in rows for name in row["figures"]))
        ours = {name: metrics.get(run, {}).get(f"{setting.protocol}/{name}") for name in names}
        entries.append({"setting": setting.title, "protocol": setting.protocol, "rows": rows, "run": run, "ours": ours})
    return entries
