"""What a study found: each arm's figures over the seeds, and the paired comparisons."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlip_assets.benchmarks.headlines import HEADLINES
from rlip_assets.files import write_json, write_text
from rlip_assets.report.facts import read_json
from rlip_assets.report.markdown import table
from rlip_assets.report.page import Section
from rlip_assets.report.repeats import Comparison, compare, summary
from rlip_assets.report.sections import comparisons_table, figures_table
from rlip_assets.studies.definitions import Study
from rlip_assets.studies.profiles import StudyProfile, run_name

PROTOCOL = HEADLINES["hico_det"].protocol
COLUMNS = {"mAP": "zero_shot_mAP", "rare": "rare", "non-rare": "non_rare", "training left": "earliness"}
EVALUATED = "evaluated_headline"

History = Sequence[Mapping[str, float]]


def write_results(study: Study, profiles: Sequence[StudyProfile], folder: Path) -> str:
    """Write NAME.json and NAME.md into `folder`; returns the text.

    Raises:
        InputError: a run of the study is not there; the message names its file.
    """
    facts = gather(study, profiles)
    text = render(study, facts)
    write_json(folder / f"{study.name}.json", facts)
    write_text(folder / f"{study.name}.md", text)
    return text


def gather(study: Study, profiles: Sequence[StudyProfile]) -> dict[str, Any]:
    """JSON-ready facts; figures are fractions 0..1."""
    metrics: dict[str, dict[str, float | None]] = {}
    histories: dict[str, History] = {}
    for profile in profiles:
        for run in profile.runs:
            found = read_json(profile.root / f"data/benchmarks/pretrain-{run}/metrics.json")
            metrics[run] = {
                "zero_shot_mAP": found[f"{PROTOCOL}/full"],
                **{name: found.get(f"{PROTOCOL}/{name}") for name in ("rare", "non_rare")},
            }
            file = profile.root / f"data/models/pretrain/{run}/history.jsonl"
            histories[run] = [json.loads(line) for line in file.read_text().splitlines()]
    for seed in range(study.seeds):
        runs = [run_name(arm, seed) for arm in study.arms]
        for run, value in earliness({run: histories[run] for run in runs}).items():
            metrics[run]["earliness"] = value
    columns = {title: name for title, name in COLUMNS.items() if any(name in figures for figures in metrics.values())}
    comparisons = [Comparison(c.claim, c.higher, c.lower, c.figure) for c in study.comparisons]
    return {
        "study": study.name,
        "title": study.title,
        "protocol": PROTOCOL,
        "arms": [
            {"arm": arm, "steps": len(histories[run_name(arm, 0)]), **summary(metrics, arm, columns)}
            for arm in study.arms
        ],
        "comparisons": compare(metrics, comparisons),
        "runs": metrics,
    }


def earliness(histories: Mapping[str, History]) -> dict[str, float]:
    """The share of each training that is left when it first reaches the highest evaluated mAP that all of them reach.

    Empty where a training was not evaluated on the way.
    """
    judged = {run: [row for row in rows if EVALUATED in row] for run, rows in histories.items()}
    if not all(judged.values()):
        return {}
    target = min(max(row[EVALUATED] for row in rows) for rows in judged.values())
    return {
        run: 1 - next(row["step"] for row in rows if row[EVALUATED] >= target) / len(histories[run])
        for run, rows in judged.items()
    }


def render(study: Study, facts: Mapping[str, Any]) -> str:
    """Markdown: a row an arm with mean and spread over its seeds, and what each comparison shows."""
    section = Section(
        study.title,
        f"Zero-shot on HICO-DET by {facts['protocol']}, percent, mean ± standard deviation over {study.seeds} seeds. "
        "A claim counts as shown when the mean paired difference is above twice its standard error over at least three seeds.",
        [figures_table("arm", facts["arms"]), comparisons_table(facts["comparisons"])],
    )
    return "\n\n".join([f"# {section.title}", section.text, *map(table, section.tables)]) + "\n"
