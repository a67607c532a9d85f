"""Results of a study: each arm's figures over the seeds, the paired comparisons, and the mAP during training.

FOLDER/NAME.json, NAME.md       one study
FOLDER/NAME*.png                its plots
FOLDER/index.html, summary.md   all studies that have run
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlip_assets.evaluation.headlines import EVALUATED, HEADLINE, HEADLINES
from rlip_assets.report.artifacts import read_history, read_json
from rlip_assets.report.markdown import tables_markdown
from rlip_assets.report.page import NOTICE, Section, render
from rlip_assets.report.repeats import Comparison, compare, summary
from rlip_assets.report.sections import comparisons_table, figures_table
from rlip_assets.report.studies.definitions import Study, studies
from rlip_assets.report.studies.study_plots import arms_plot, evaluations_plot
from rlip_assets.report.studies.study_profiles import StudyProfile, run_name
from rlip_assets.storage.files import write_json, write_text

PROTOCOL = HEADLINES["hico_det"].protocol
FIGURES = {
    "pretrain": {"zero_shot_mAP": "full", "rare": "rare", "non_rare": "non_rare"},
    "finetune": {"unseen": "unseen", "seen": "seen", "mAP": "full"},
}
"""Stage of a study's trainings -> its figures and their names in the protocol; the first one that all runs have is plotted."""
COLUMNS = {"mAP": "zero_shot_mAP", "rare": "rare", "non-rare": "non_rare", "training left": "earliness"}
FINETUNED_COLUMNS = {"unseen": "unseen", "seen": "seen", "all": "mAP"}
EVALUATED_HEADLINE = f"{EVALUATED}{HEADLINE}"

History = Sequence[Mapping[str, float]]


def write_results(study: Study, profiles: Sequence[StudyProfile], folder: Path) -> str:
    """Write a study's facts, text and plots into `folder`, and the page of all studies there anew; returns the text.

    Raises:
        InputError: a run of the study is not there; the message names its file.
    """
    facts = gather(study, profiles)
    text = tables_markdown([section_of(facts)])
    write_json(folder / f"{study.name}.json", facts)
    write_text(folder / f"{study.name}.md", text)
    arms_plot(facts, folder / f"{study.name}.png")
    if facts["learning"]:
        evaluations_plot(facts, folder / f"{study.name}_learning.png")
    write_summary(folder)
    return text


def write_summary(folder: Path) -> None:
    """The page and the text of all studies whose facts are in `folder`, in the order of their definitions."""
    found = [read_json(file) for name in studies() if (file := folder / f"{name}.json").is_file()]
    sections = [section_of(facts) for facts in found]
    lead = (
        "HICO-DET, percent, mean ± standard deviation over the seeds; zero-shot, or fine-tuned where the arms say so. The arm usual is "
        "the unchanged recipe: a scalar gate, a fusion before every second encoder layer, generated captions, threshold 0.20 and both "
        "label terms."
    )
    write_text(folder / "index.html", render("Studies", lead, sections, NOTICE))
    write_text(folder / "summary.md", tables_markdown(sections))


def gather(study: Study, profiles: Sequence[StudyProfile]) -> dict[str, Any]:
    """JSON-ready facts; figures are fractions 0..1."""
    metrics: dict[str, dict[str, float | None]] = {}
    histories: dict[str, History] = {}
    for profile in profiles:
        for run in profile.runs:
            found = read_json(profile.root / f"data/benchmarks/{study.stage}-{run}/metrics.json")
            metrics[run] = {name: found.get(f"{PROTOCOL}/{figure}") for name, figure in FIGURES[study.stage].items()}
            histories[run] = read_history(profile.root / f"data/models/{study.stage}/{run}/history.jsonl")
    for seed in range(study.seeds):
        runs = [run_name(arm, seed) for arm in study.arms]
        for run, value in earliness({run: histories[run] for run in runs}).items():
            metrics[run]["earliness"] = value
    every = COLUMNS if study.stage == "pretrain" else FINETUNED_COLUMNS
    columns = {title: name for title, name in every.items() if any(name in figures for figures in metrics.values())}
    comparisons = [Comparison(c.claim, c.higher, c.lower, c.figure) for c in study.comparisons]
    return {
        "study": study.name,
        "title": study.title,
        "protocol": PROTOCOL,
        "plotted": next(
            name for name in FIGURES[study.stage] if all(run.get(name) is not None for run in metrics.values())
        ),
        "arms": [
            {"arm": arm, "steps": len(histories[run_name(arm, 0)]), **summary(metrics, arm, columns)}
            for arm in study.arms
        ],
        "comparisons": compare(metrics, comparisons),
        "runs": metrics,
        "learning": {run: points for run, rows in histories.items() if (points := evaluations(rows))},
    }


def earliness(histories: Mapping[str, History]) -> dict[str, float]:
    """The share of each training that is left when it first reaches the highest evaluated mAP that all of them reach.

    Empty where a training was not evaluated in between.
    """
    judged = {run: evaluations(rows) for run, rows in histories.items()}
    if not all(judged.values()):
        return {}
    target = min(max(value for _, value in points) for points in judged.values())
    return {
        run: 1 - next(step for step, value in points if value >= target) / len(histories[run])
        for run, points in judged.items()
    }


def evaluations(history: History) -> list[tuple[int, float]]:
    """Return (step, mAP) of every evaluation during training."""
    return [(int(row["step"]), row[EVALUATED_HEADLINE]) for row in history if EVALUATED_HEADLINE in row]


def section_of(facts: Mapping[str, Any]) -> Section:
    """Return a row per arm with mean and spread over its seeds, the verdict of each comparison, and the plots."""
    name = facts["study"]
    return Section(
        facts["title"],
        f"Protocol {facts['protocol']}, {facts['arms'][0]['seeds']} seeds. A claim counts as shown when the mean paired difference is "
        "above twice its standard error over at least three seeds.",
        [figures_table("arm", facts["arms"]), comparisons_table(facts["comparisons"])],
        [f"{name}.png", *([f"{name}_learning.png"] if facts["learning"] else [])],
    )
