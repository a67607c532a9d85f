"""Results class by class for the report: the best and the worst, what is wrong with the triplets of each verb, and every class as CSV."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlip_assets.evaluation.headlines import HEADLINES
from rlip_assets.report.artifacts import read_json, read_rows
from rlip_assets.storage.escape import csv_cell
from rlip_assets.storage.files import write_text

SHOWN = 5
PLOTS = ("precision_recall.png", "errors_by_cause.png")
COLUMNS = ("class", "positives", "detections", "right", "recall", "ap")


def class_facts(benchmark: Path, dataset: str, output: Path) -> dict[str, Any]:
    """Return what the report says of one run's classes.

    Args:
        benchmark: folder of a benchmark run.
        dataset: the benchmark, which says whose classes count.
        output: the report's folder; receives `classes/RUN.csv` and copies of the run's pictures below `classes/RUN/`.

    Returns:
        `best` and `worst` classes (annotated ones by AP), `causes` by verb (counts), `examples` (picture -> caption), `plots` and `table`
        (files relative to `output`).
    """
    headline = HEADLINES[dataset]
    rows = [
        {name: row[name] for name in COLUMNS}
        for row in read_rows(benchmark / "per_class.parquet")
        if (row["protocol"], row["task"]) == (headline.protocol, headline.task)
    ]
    annotated = sorted((row for row in rows if row["positives"]), key=lambda row: (-row["ap"], row["positives"]))
    table = f"classes/{benchmark.name}.csv"
    write_text(output / table, classes_csv(rows))
    captions: Mapping[str, str] = read_json(benchmark / "worst.json")
    copies = {file: _copied(benchmark / file, output) for file in (*PLOTS, *captions)}
    return {
        "best": annotated[:SHOWN],
        "worst": annotated[SHOWN:][-SHOWN:],
        "causes": read_json(benchmark / "errors.json")["by_verb"],
        "examples": {copies[file]: caption for file, caption in captions.items()},
        "plots": [copies[file] for file in PLOTS],
        "table": table,
    }


def _copied(file: Path, output: Path) -> str:
    """Copy a picture beside the report; returns its place relative to `output`."""
    name = f"classes/{file.parent.name}/{file.name}"
    (output / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, output / name)
    return name


def classes_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of `class_rows` as CSV that a spreadsheet may open, whatever the names of the classes."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(row[name]) for name in COLUMNS} for row in rows)
    return stream.getvalue()
