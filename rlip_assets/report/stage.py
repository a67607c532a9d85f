"""The last stage: figures of all benchmarks become JSON, Markdown and a page with plots and pictures."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.report_files import METRICS_FOLDER
from rlip_assets.report import plots
from rlip_assets.report.artifacts import read_history, read_json
from rlip_assets.report.class_facts import class_facts
from rlip_assets.report.dvc_files import write_curves, write_metrics
from rlip_assets.report.facts import gather
from rlip_assets.report.markdown import to_markdown
from rlip_assets.report.page import Picture, render_page
from rlip_assets.report.repeats import REPEAT
from rlip_assets.report.sections import sections_of
from rlip_assets.report.verbs import relation_counts, verb_sources
from rlip_assets.storage.files import write_json, write_text

PICTURES_A_RUN = 4
CLASS_RUNS = ("finetune-hico_full", "finetune-v_coco", "finetune-open_images")
"""Runs whose classes are shown one by one, besides the one without fine-tuning."""
HISTORY = "history.jsonl"


def report_stage(ctx: StageContext) -> dict[str, Any]:
    """Write the report.

    Inputs: `benchmarks`, and as far as the profile has them `label_quality`, `pretrained` (checkpoints with their histories),
    `predictions/RUN` (with pictures), `scenes` of Visual Genome, `pseudo_labels/DATASET`, `classes` of HICO-DET. Output: `report`, with
    `benchmark.json`, `.md` and `.html`, and the metrics and curves that `dvc.yaml` names.
    """
    output, training = ctx.outputs["report"], ctx.params.training
    predicted = {f"predict-{name}": choice.checkpoint for name, choice in ctx.params.predictions.items()}
    facts = gather(ctx.inputs["benchmarks"], ctx.inputs.get("label_quality"), predicted, training)
    facts |= {
        "profile": ctx.params.profile,
        "micro_world": ctx.params.is_micro_world,
        "verb_sources": _verbs(ctx),
    }
    if ctx.params.rehearsal:
        facts["rehearsal"] = str(ctx.params.rehearsal)
    for row in facts["results"]:
        if row["run"] in (training.zero_shot_run, *CLASS_RUNS):
            dataset = row["protocol"].partition("/")[0]
            row["classes"] = class_facts(ctx.inputs["benchmarks"] / row["run"], dataset, output)
    histories = _histories(ctx.inputs["pretrained"]) if "pretrained" in ctx.inputs else {}
    for row in (*facts["scaling"], *facts["fusion"]):
        row["steps"] = len(histories[row["run"].removeprefix("pretrain-")])
    first_seeds = {run: rows for run, rows in histories.items() if not REPEAT.fullmatch(run)}
    _draw(facts, first_seeds, output / "plots")
    write_metrics(facts, output / PurePosixPath(METRICS_FOLDER).name)
    write_curves(facts, first_seeds, ctx.inputs["benchmarks"], output, training.pictured_runs)
    sections = sections_of(facts, _pictures(ctx.inputs, training.pictured_runs, output / "pictures"))
    write_json(output / "benchmark.json", facts)
    write_text(output / "benchmark.md", to_markdown(facts, sections))
    write_text(output / "benchmark.html", render_page(facts, sections))
    return {f"{row['run']}/{name}": value for row in facts["results"] for name, value in row["figures"].items()}


def _verbs(ctx: StageContext) -> list[dict[str, Any]]:
    if "classes" not in ctx.inputs:
        return []
    classes = read_json(ctx.inputs["classes"])
    human = {"Visual Genome": relation_counts(ctx.inputs["scenes"])} if "scenes" in ctx.inputs else {}
    sources = human | {
        f"pseudo labels, {name.partition('/')[2]}": relation_counts(path)
        for name, path in ctx.inputs.items()
        if name.startswith("pseudo_labels/")
    }
    return verb_sources(classes["relations"], classes.get("groups", {}).get("accepted_texts", {}), sources)


def _histories(pretrained: Path) -> dict[str, list[dict[str, float]]]:
    """Return one row per step of every pre-training."""
    return {run.name: read_history(run / HISTORY) for run in sorted(pretrained.iterdir()) if (run / HISTORY).is_file()}


def _draw(facts: Mapping[str, Any], histories: Mapping[str, list[dict[str, float]]], folder: Path) -> None:
    plots.scaling_plot(facts["scaling"], folder / "scaling.png")
    if len(facts["fusion"]) > 1:
        plots.fusion_plot(facts["fusion"], folder / "fusion.png")
    plots.learning_plot(histories, folder / "learning.png")
    quality = facts["label_quality"]
    if quality is None:
        return
    plots.precision_recall_plot(quality["curve"], quality.get("operating_threshold"), folder / "pseudo_labels.png")
    plots.reliability_plot(quality, folder / "reliability.png")
    if quality.get("losses"):
        plots.losses_plot(quality, folder / "lost_relations.png")


def _pictures(inputs: Mapping[str, Path], runs: Iterable[str], folder: Path) -> list[Picture]:
    """Copies of the pictures that the training stages drew of their predictions on test images."""
    pictures = []
    folder.mkdir(parents=True, exist_ok=True)
    for run in runs:
        title = "zero-shot, pre-trained only" if run.startswith("pretrain-") else "fine-tuned"
        source = inputs.get(f"predictions/{run}")
        for file in sorted(source.glob("*.png"))[:PICTURES_A_RUN] if source else []:
            name = f"{run}-{file.name}"
            shutil.copyfile(file, folder / name)
            pictures.append(Picture(f"pictures/{name}", title))
    return pictures
