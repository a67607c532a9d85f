"""Benchmark runs and the lines of the report that they stand in.

Runs that profiles commonly have are known by name and have the titles of the paper; every other training of a profile has its own line.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from rlip_assets.evaluation.headlines import HEADLINES
from rlip_assets.lineage.datasets import ZERO_SHOT_BENCHMARK
from rlip_assets.lineage.params.training import TrainingParams
from rlip_assets.report.repeats import REPEAT, Comparison

HICO, V_COCO, OPEN_IMAGES = (HEADLINES[name].protocol for name in ("hico_det", "v_coco", "open_images"))
ZERO_SHOT = "pretrain-vg_coco_o365"
"""The pre-training on all data, as profiles name it."""


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
    Row("HICO-DET zero-shot (NF)", ZERO_SHOT, RARE),
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
    "hico_det_zero_shot": ZERO_SHOT,
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
    ("VG + COCO + Objects365", ZERO_SHOT),
    ("VG, as many steps as all three", "pretrain-vg_equal_steps"),
)
FUSION = (
    ("ALIF", ZERO_SHOT),
    ("late fusion, equal steps", "pretrain-late_vg_coco_o365"),
    ("late fusion, equal seconds", "pretrain-late_equal_seconds"),
)
COMPARISONS = (
    Comparison("More data helps zero-shot", ZERO_SHOT, "pretrain-vg", f"{HICO}/full"),
    Comparison("More data helps zero-shot, equal steps", ZERO_SHOT, "pretrain-vg_equal_steps", f"{HICO}/full"),
    Comparison("Pseudo-labelled COCO helps zero-shot", "pretrain-vg_coco", "pretrain-vg", f"{HICO}/full"),
    Comparison("All training images beat 10 %", "finetune-hico_full", "finetune-hico_10", f"{HICO}/full"),
    Comparison("10 % of the training images beat 1 %", "finetune-hico_10", "finetune-hico_1", f"{HICO}/full"),
    Comparison("ALIF beats late fusion, equal steps", FUSION[0][1], FUSION[1][1], f"{HICO}/full"),
    Comparison("ALIF beats late fusion, equal seconds", FUSION[0][1], FUSION[2][1], f"{HICO}/full"),
)
SHORT = {"visual_genome": "VG", "coco": "COCO", "objects365": "Objects365", "hico_det": "HICO-DET"}


def result_rows(training: TrainingParams) -> list[Row]:
    """Return the rows of the results table: without fine-tuning, then the fine-tunings, the known ones first."""
    known = {row.run: row for row in ROWS}
    rows = [replace(known[ZERO_SHOT], run=training.zero_shot_run)] if training.zero_shot_run else []
    rows += [row for row in ROWS if row.run.removeprefix("finetune-") in training.finetune]
    for name, choice in training.finetune.items():
        if f"finetune-{name}" in known or REPEAT.fullmatch(name):
            continue
        recipe = choice.resolve()
        title = f"{TITLES[str(recipe.benchmark)]}, {name}"
        if recipe.benchmark == ZERO_SHOT_BENCHMARK:
            rows.append(Row(title, f"finetune-{name}", UNSEEN if recipe.unseen else RARE))
        else:
            columns = known[f"finetune-{recipe.benchmark}"].columns
            rows.append(Row(title, f"finetune-{name}", columns))
    return rows


def start_of(training: TrainingParams, run: str) -> str:
    """Return what a run's network is or started from: `pretrain/NAME`, `finetune/NAME` or a folder; "" for another run."""
    stage, _, name = run.partition("-")
    if stage == "pretrain":
        return f"pretrain/{name}"
    return training.start_of(name) if stage == "finetune" else ""


def scaling_runs(training: TrainingParams) -> list[tuple[str, str]]:
    """Return title and run of each pre-training by its data: those known by name, then the others but for late fusion and repeats."""
    known = {run for _, run in (*SCALING, *FUSION)}
    found = [(title, run) for title, run in SCALING if run.removeprefix("pretrain-") in training.pretrain]
    for name, choice in training.pretrain.items():
        recipe = choice.resolve()
        if f"pretrain-{name}" not in known and not REPEAT.fullmatch(name) and "_late" not in recipe.model:
            data = " + ".join(SHORT.get(source, source) for source in recipe.sources)
            found.append((f"{data} ({name})", f"pretrain-{name}"))
    return found


def fusion_runs(training: TrainingParams, made: Collection[str]) -> list[tuple[str, str]]:
    """Return title and run of each fusion on the same data: those known by name, else each late one beside its namesake with ALIF.

    Args:
        made: the runs that have figures.
    """
    known = [(title, run) for title, run in FUSION if run in made]
    if len(known) > 1:
        return known
    resolved = {name: choice.resolve() for name, choice in training.pretrain.items()}
    found: dict[str, str] = {}
    for name, late in resolved.items():
        same = (other for other, each in resolved.items() if each.model == late.model.replace("_late", ""))
        if "_late" in late.model:
            alif = [other for other in same if resolved[other].sources == late.sources][:1]
            found |= {f"pretrain-{each}": f"ALIF, {each}" for each in alif} | {
                f"pretrain-{name}": f"late fusion, {name}"
            }
    return [(title, run) for run, title in found.items() if run in made]


def setting_runs(training: TrainingParams) -> Mapping[str, str]:
    """Return the run of each setting of the published figures."""
    return {**SETTING_RUNS, "hico_det_zero_shot": training.zero_shot_run or ZERO_SHOT}
