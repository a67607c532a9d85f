"""The benchmark stage: predictions in, figures of every protocol, results by class and causes of errors out.

It reads what a training stage predicted and imports neither torch nor transformers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlip_assets.datasets.scenes import Scene
from rlip_assets.datasets.sources.roots import image_root
from rlip_assets.evaluation.core.ground_truth import benchmark_scenes, ground_truth_of_list
from rlip_assets.evaluation.core.results import ClassTable, ProtocolResult
from rlip_assets.evaluation.core.vocabulary import Vocabulary, read_vocabulary
from rlip_assets.evaluation.errors_by_cause import CAUSES, CauseCounter
from rlip_assets.evaluation.examples import worst_examples
from rlip_assets.evaluation.formats.predictions import read_predictions
from rlip_assets.evaluation.headlines import HEADLINES
from rlip_assets.evaluation.pictures import causes_picture, curves_picture
from rlip_assets.evaluation.suites import judge, suite
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.datasets import ZERO_SHOT_BENCHMARK
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.files import atomic_file, write_json
from rlip_assets.storage.images import save_picture

METRICS, CLASSES, CURVES = "metrics.json", "per_class.parquet", "curves.parquet"
INTERVALS = "intervals.json"
ERRORS, WORST = "errors.json", "worst.json"


def benchmark_stage(ctx: StageContext) -> dict[str, Any]:
    """Judge the predictions of one run.

    Inputs: `predictions` (folder with `BENCHMARK.parquet`), `scenes`, `classes`. Output `benchmark`: `metrics.json` (protocol/figure ->
    fraction, null for the mean of nothing), `intervals.json` (the same for the benchmark's first protocol: both ends of the bootstrap
    interval over images), `per_class.parquet`, `curves.parquet` (recall and precision at every right detection), `errors.json` (see
    `errors_by_cause`), pictures of curves and causes, and test images of the worst classes with their captions in `worst.json`.
    """
    vocabulary = read_vocabulary(ctx.inputs["classes"])
    scenes = benchmark_scenes(ctx.inputs["scenes"])
    truth = ground_truth_of_list(scenes, vocabulary, str(ctx.inputs["scenes"]))
    path = ctx.inputs["predictions"] / f"{vocabulary.dataset}.parquet"
    kind, _, name = (ctx.partition or "").partition("-")
    said = read_predictions(path).metadata
    zero_shot = bool(said.get("zero_shot", kind == "pretrain"))
    unseen = ctx.params.training.finetune[name].resolve().unseen if kind == "finetune" else said.get("unseen")
    unseen = tuple(map(tuple, unseen)) if isinstance(unseen, list) else unseen  # an own split, as JSON keeps it
    evaluators = suite(truth, vocabulary, zero_shot=zero_shot, unseen=unseen)
    headline = HEADLINES[vocabulary.dataset]
    for evaluator in evaluators:
        evaluator.resampled = headline.protocol
    results = judge(evaluators, read_predictions(path))
    causes = CauseCounter(truth, vocabulary, persons=vocabulary.dataset != "open_images")
    for batch in read_predictions(path):
        for image in batch.images():
            causes.update(image)

    output = ctx.outputs["benchmark"]
    figures = flat_figures(results)
    write_json(output / METRICS, figures)
    write_json(output / ERRORS, {"causes": CAUSES, "shares": causes.shares(), "by_verb": causes.by_verb})
    write_table(output / CLASSES, class_rows(results))
    write_table(output / CURVES, curve_rows(results))
    (first,) = [result for result in results if result.name == headline.protocol]
    table = first.tables[headline.task]
    write_json(output / INTERVALS, interval_figures(first))
    for name, picture in (
        ("precision_recall", curves_picture(table, f"{ctx.partition}: {headline.protocol}")),
        ("errors_by_cause", causes_picture(causes.shares(), str(ctx.partition))),
    ):
        ctx.log.picture(name, picture)
        save_picture(output / f"{name}.png", picture)
    write_json(output / WORST, _draw_worst(ctx, table, vocabulary, path, scenes))

    main = {name: value for name, value in figures.items() if name.startswith(headline.protocol)}
    shown = {name: value for name, value in main.items() if value is not None}
    mean = main[f"{headline.protocol}/{headline.figure}"]
    if zero_shot and vocabulary.dataset == ZERO_SHOT_BENCHMARK and mean is not None:
        shown["zero_shot_mAP"] = mean
    ctx.log.metrics(shown)
    return {name.rpartition("/")[2]: value for name, value in main.items()} | {"images": len(truth), "headline": mean}


def flat_figures(results: list[ProtocolResult]) -> dict[str, float | None]:
    """All figures by "protocol/variant/figure"; None where a protocol gives no number."""
    return {
        f"{result.name}/{figure}": None if math.isnan(value) else float(value)
        for result in results
        for figure, value in result.figures.items()
    }


def interval_figures(result: ProtocolResult) -> dict[str, tuple[float, float]]:
    """Low and high end of each figure's bootstrap interval by "protocol/variant/figure"."""
    found = result.resampling.intervals() if result.resampling else {}
    return {f"{result.name}/{figure}": interval for figure, interval in found.items()}


def class_rows(results: list[ProtocolResult]) -> list[dict[str, Any]]:
    """Return one row per protocol, task and class."""
    return [
        {
            "protocol": result.name,
            "task": task,
            "class": " ".join(names),
            "positives": int(table.ranks.positives[i]),
            "detections": int(table.ranks.detections[i]),
            "right": int(table.ranks.right[i]),
            "recall": float(table.ranks.recall[i]),
            "ap": float(table.ap[i]),
        }
        for result in results
        for task, table in result.tables.items()
        for i, names in enumerate(table.names)
    ]


def curve_rows(results: list[ProtocolResult]) -> list[dict[str, Any]]:
    """Return one row per protocol, task and class that has a right detection, with lists of recall and precision."""
    rows = []
    for result in results:
        for task, table in result.tables.items():
            for i, names in enumerate(table.names):
                recall, precision = table.curve(i)
                if len(recall):
                    row = {"protocol": result.name, "task": task, "class": " ".join(names)}
                    rows.append(row | {"recall": recall.tolist(), "precision": precision.tolist()})
    return rows


def write_table(path: Path, rows: list[dict[str, Any]], metadata: dict[bytes, bytes] | None = None) -> None:
    """Write rows as one Parquet file, atomically, with `metadata` in its footer."""
    with atomic_file(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(metadata), temporary)


def _draw_worst(
    ctx: StageContext, table: ClassTable, vocabulary: Vocabulary, path: Path, scenes: Sequence[Scene]
) -> dict[str, str]:
    """Draw test images of the worst classes; returns captions by picture. Without the raw images none are drawn, and the log says so."""
    try:
        root = image_root(ctx, vocabulary.dataset)
    except InputError as error:
        ctx.log.info(f"no examples of the worst classes are drawn: {error}")
        return {}
    captions = {}
    for example in worst_examples(table, vocabulary, read_predictions(path), scenes, root):
        ctx.log.picture(example.name, example.picture)
        save_picture(ctx.outputs["benchmark"] / f"{example.name}.png", example.picture)
        captions[f"{example.name}.png"] = example.caption
    return captions
