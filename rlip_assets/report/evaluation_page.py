"""The report of one `rlip evaluate`: figures by protocol beside the published ones, classes, curves, causes of errors, worst classes.

FOLDER/evaluation.html          the page
FOLDER/metrics.json             protocol/figure -> fraction
FOLDER/per_class.parquet, .csv  every class of every protocol; the headline protocol's as CSV
FOLDER/curves.parquet           recall and precision at every right detection
FOLDER/errors.json              causes of errors, also by verb
FOLDER/*.png                    curves, causes, test images of the worst classes
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlip_assets.datasets.scenes import Scene
from rlip_assets.evaluation.core.ground_truth import GroundTruth, benchmark_scenes
from rlip_assets.evaluation.core.protocols import DESCRIPTIONS, VCOCO_TRAINING
from rlip_assets.evaluation.core.results import ClassTable, ProtocolResult
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.errors_by_cause import CAUSES, CauseCounter
from rlip_assets.evaluation.evaluate_files import Evaluation, Predictions, Request
from rlip_assets.evaluation.examples import worst_examples
from rlip_assets.evaluation.formats.annotations import read_annotations
from rlip_assets.evaluation.headlines import HEADLINES, Headline
from rlip_assets.evaluation.pictures import causes_picture, curves_picture
from rlip_assets.evaluation.published import published_figures
from rlip_assets.evaluation.stage import class_rows, curve_rows, flat_figures, write_table
from rlip_assets.report.class_facts import classes_csv
from rlip_assets.report.page import Picture, Section, Table, render
from rlip_assets.report.sections import causes_by_verb, class_table, percent, published_table
from rlip_assets.storage.files import write_json, write_text
from rlip_assets.storage.images import save_picture

PAGE = "evaluation.html"
SHOWN = 8
"""Classes of the highest and of the lowest AP on the page."""
NO_CAUSES = (
    "Left out, and so are pictures of the worst classes: official V-COCO files are judged person by person. Give pairs with a scene table "
    "for them."
)
TRAINING_HEADLINE = Headline(VCOCO_TRAINING, "map_all", "")
"""For V-COCO pair lists, which the official evaluation cannot judge."""


def write_evaluation(
    folder: Path, request: Request, evaluation: Evaluation, images: Path | None = None, judged: str = ""
) -> Path:
    """Write the report of an evaluation; returns the page.

    Args:
        images: root of the test images, to draw the worst classes.
        judged: words for what is judged by what; by default the paths of the two.
    """
    folder.mkdir(parents=True, exist_ok=True)
    headline, table = _headline(request.benchmark, evaluation.results)
    rows = class_rows(evaluation.results)
    own = [row for row in rows if (row["protocol"], row["task"]) == (headline.protocol, headline.task)]
    figures = flat_figures(evaluation.results)
    write_json(folder / "metrics.json", figures)
    write_table(folder / "per_class.parquet", rows)
    write_table(folder / "curves.parquet", curve_rows(evaluation.results))
    write_text(folder / "per_class.csv", classes_csv(own))
    save_picture(folder / "precision_recall.png", curves_picture(table, headline.protocol))
    if evaluation.causes is not None:
        causes = {"causes": CAUSES, "shares": evaluation.causes.shares(), "by_verb": evaluation.causes.by_verb}
        write_json(folder / "errors.json", causes)
        save_picture(
            folder / "errors_by_cause.png", causes_picture(evaluation.causes.shares(), request.predictions.name)
        )
    sections = [
        *_figures(evaluation.results),
        *_published(request, figures),
        _classes(own, headline),
        _errors(evaluation.causes),
        *([] if images is None or evaluation.causes is None else [_worst(folder, request, table, images)]),
    ]
    counted = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in evaluation.counts.items())
    judged = judged or f"{request.predictions} judged by {request.annotations}"
    lead = f"{judged}. All figures in percent. {counted}."
    notice = "".join(f"Suspicious: {words} " for words in evaluation.suspicions).strip()
    write_text(folder / PAGE, render(f"Evaluation: {request.benchmark}", lead, sections, notice))
    return folder / PAGE


def variants_table(results: Sequence[ProtocolResult]) -> Table:
    """Results of one protocol, a column each."""
    names = list(dict.fromkeys(name for result in results for name in result.figures))
    header = ["figure", *(result.variant or "value" for result in results)]
    return Table(header, [[name, *(_cell(result.figures.get(name)) for result in results)] for name in names])


def by_protocol(results: Sequence[ProtocolResult]) -> dict[str, list[ProtocolResult]]:
    """Results by the name of their protocol, in order of appearance."""
    groups: dict[str, list[ProtocolResult]] = {}
    for result in results:
        groups.setdefault(result.protocol, []).append(result)
    return groups


def scenes_of(truth: GroundTruth, vocabulary: Vocabulary) -> Iterator[Scene]:
    """The annotated images of a pair list as scenes; their ids are file names."""
    for number, image_id in enumerate(truth.image_ids):
        boxes = slice(truth.box_offsets[number], truth.box_offsets[number + 1])
        relations = truth.relations[truth.relation_offsets[number] : truth.relation_offsets[number + 1]]
        width, height = truth.sizes[number].tolist()
        yield Scene(
            image_id=image_id,
            dataset=vocabulary.dataset,
            split="test",
            file_name=image_id,
            width=width,
            height=height,
            boxes=truth.boxes[boxes],
            labels=tuple(vocabulary.objects[label] for label in truth.labels[boxes]),
            subject=relations[:, 0].astype(np.int32),
            object=relations[:, 1].astype(np.int32),
            relation=tuple(vocabulary.verbs[verb] for verb in relations[:, 2]),
            confidence=np.full(len(relations), np.nan, np.float32),
        )


def _headline(benchmark: str, results: Sequence[ProtocolResult]) -> tuple[Headline, ClassTable]:
    """The headline protocol, or what there is in its place, with its classes."""
    by_name = {result.name: result for result in results}
    headline = HEADLINES[benchmark]
    if headline.protocol not in by_name:
        headline = TRAINING_HEADLINE
    return headline, by_name[headline.protocol].tables[headline.task]


def _figures(results: Sequence[ProtocolResult]) -> Iterator[Section]:
    for protocol, own in by_protocol(results).items():
        yield Section(protocol, DESCRIPTIONS[protocol], [variants_table(own)])


def _published(request: Request, figures: Mapping[str, float | None]) -> Iterator[Section]:
    """The published figures of the settings that this evaluation may belong to, with its own figures on top."""
    table = published_figures()
    if request.zero_shot:
        keys = [f"{request.benchmark}_zero_shot"]
    elif request.unseen:
        keys = [f"{request.benchmark}_{request.unseen}"]
    else:
        unseen = ("_zero_shot", "_uc_rf", "_uc_nf", "_uo", "_uv")
        keys = [key for key in table.settings if key.startswith(request.benchmark) and not key.endswith(unseen)]
    tables = []
    for key in (key for key in keys if key in table.settings):
        setting = table.settings[key]
        rows = table.of_setting(key)
        ours = {name: figures.get(f"{setting.protocol}/{name}") for row in rows for name in row["figures"]}
        if any(value is not None for value in ours.values()):
            tables.append(published_table(setting.title, setting.protocol, rows, ours, request.predictions.name))
    if tables:
        words = "The first row is this evaluation, by the protocol that compares. The others are quoted from their sources, not run again."
        yield Section("Beside published figures", words, tables)


def _classes(rows: list[dict[str, Any]], headline: Headline) -> Section:
    annotated = sorted((row for row in rows if row["positives"]), key=lambda row: (-row["ap"], row["positives"]))
    shown = [*annotated[:SHOWN], *annotated[SHOWN:][-SHOWN:]]
    words = (
        f"The best and the worst of {len(annotated)} annotated classes by AP, protocol {headline.protocol}. All classes: per_class.csv; of "
        "every protocol: per_class.parquet; every curve: curves.parquet."
    )
    return Section("Class by class", words, [class_table(shown)], ["precision_recall.png"])


def _errors(causes: CauseCounter | None) -> Section:
    if causes is None:
        return Section("Where errors come from", NO_CAUSES)
    words = "Of each test image the best R triplets, R being the number of its annotated relations. "
    words += "; ".join(f"{cause}: {meaning}" for cause, meaning in CAUSES.items()) + "."
    return Section("Where errors come from", words, [causes_by_verb(causes.by_verb)], ["errors_by_cause.png"])


def _worst(folder: Path, request: Request, table: ClassTable, images: Path) -> Section:
    truth, vocabulary = read_annotations(request.annotations, request.classes, request.split, request.benchmark)
    folder_given = request.annotations.is_dir()
    scenes = (
        benchmark_scenes(request.annotations, request.split) if folder_given else list(scenes_of(truth, vocabulary))
    )
    pictures = []
    for example in worst_examples(table, vocabulary, Predictions(request, vocabulary, truth.image_ids), scenes, images):
        save_picture(folder / f"{example.name}.png", example.picture)
        pictures.append(Picture(f"{example.name}.png", example.caption))
    words = "Test images of the worst classes, with the five best triplets of the predictions."
    return Section(
        "Worst classes", words if pictures else f"No image of the worst classes lies below {images}.", pictures=pictures
    )


def _cell(value: float | None) -> str:
    return percent(None if value is None or np.isnan(value) else value)
