"""Judges files as people have them: predictions and annotations in any of the known forms.

| predictions                         | read by                     |
|-------------------------------------|-----------------------------|
| Parquet of this project             | `predictions.py`            |
| JSON list of UPT, PViC, QPIC or CDN | `hoi_lists.py`              |
| official V-COCO content, JSON or Parquet | `v_coco_content.py`    |

Annotations: see `annotations.py`; official V-COCO action files, together with COCO instances, in `v_coco_official_files.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rlip_assets.evaluation.core.evaluator import Annotated
from rlip_assets.evaluation.core.results import ProtocolResult
from rlip_assets.evaluation.core.vocabulary import Vocabulary, read_vocabulary
from rlip_assets.evaluation.errors_by_cause import CauseCounter
from rlip_assets.evaluation.formats.annotations import PAIRS_ONLY, read_annotations
from rlip_assets.evaluation.formats.hoi_lists import read_hoi_lists
from rlip_assets.evaluation.formats.predictions import PredictionBatch, read_predictions
from rlip_assets.evaluation.hico_det.known_object import read_known_objects
from rlip_assets.evaluation.suites import Suite, judge, suite
from rlip_assets.evaluation.v_coco.actions import actions_of_vocabulary
from rlip_assets.evaluation.v_coco.content import is_official_content, read_official_content
from rlip_assets.evaluation.v_coco.ground_truth import OfficialTruth, official_truth_of_pairs
from rlip_assets.evaluation.v_coco.official import VcocoOfficialEvaluator, evaluate_official
from rlip_assets.evaluation.v_coco.official_files import read_official_annotations
from rlip_assets.storage.errors import DataError, InputError, ParameterError

PICKLES = (".pkl", ".pickle")


@dataclass(frozen=True)
class Question:
    """What is to be judged, and how.

    Attributes:
        benchmark: "hico_det", "v_coco" or "open_images".
        predictions, annotations: files of the forms above, or a scene table folder for the annotations.
        classes: classes.json where it does not lie beside the scene table; needed to judge this project's predictions against
            official V-COCO files.
        split: which images of a scene table.
        instances: COCO instances, if `annotations` is an official V-COCO action file.
        coco_ids: labels in a QPIC list are COCO category ids, verbs from 1.
        unseen, zero_shot: see `suite`.
        image_labels: HICO's image labels (see `read_known_objects`); adds the Known-Object setting.
    """

    benchmark: str
    predictions: Path
    annotations: Path
    classes: Path | None = None
    split: str = "test"
    instances: Path | None = None
    coco_ids: bool = False
    unseen: str | None = None
    zero_shot: bool = False
    image_labels: Path | None = None


class Answer(NamedTuple):
    """What was found.

    Attributes:
        results: of every protocol that the files allow.
        counts: what they rest on (`Evaluator.counts`).
        causes: of errors, where they were asked for and the predictions are pairs; the content of official V-COCO results is not.
    """

    results: list[ProtocolResult]
    counts: Mapping[str, int]
    causes: CauseCounter | None = None


def answer(question: Question, causes: bool = False) -> Answer:
    """Judge a file of predictions.

    Args:
        causes: count the causes of errors too, which takes a few seconds more.

    Raises:
        RlipError: a file that is missing, broken or of another form or benchmark; names file, row and remedy.
    """
    if not question.predictions.is_file():
        what = "is no file" if question.predictions.exists() else "does not exist"
        raise InputError(f"{question.predictions} {what}; give a file of predictions")
    if question.predictions.suffix in PICKLES:
        raise InputError(
            f"{question.predictions}: pickles can run code and are not opened; write its content as .json or .parquet"
        )
    if question.instances is not None:
        return _official_files(question, question.instances)
    truth, vocabulary = read_annotations(question.annotations, question.classes, question.split)
    if vocabulary.dataset != question.benchmark:
        raise ParameterError(
            f"{question.annotations} annotates {vocabulary.dataset}, not {question.benchmark}: name the other benchmark"
        )
    if is_official_content(question.predictions):
        if question.benchmark != "v_coco" or PAIRS_ONLY in vocabulary.groups:
            raise ParameterError(
                f"{question.predictions} holds official V-COCO results; give a V-COCO scene table, or the official action file with "
                "COCO's instances, as annotations"
            )
        return _content(question, official_truth_of_pairs(truth, actions_of_vocabulary(vocabulary), vocabulary.person))
    known = None
    if question.image_labels is not None:
        if question.benchmark != "hico_det":
            raise ParameterError(f"image labels go with hico_det, not {question.benchmark}: leave --image-labels out")
        known = read_known_objects(question.image_labels, vocabulary)
    evaluators = suite(truth, vocabulary, zero_shot=question.zero_shot, unseen=question.unseen, known_objects=known)
    counter = None
    if causes:
        counter = CauseCounter(
            truth,
            vocabulary,
            persons=question.benchmark != "open_images",
            listed_only=_is_list(question),
            person_filter=question.zero_shot and question.benchmark == "hico_det",
        )
    return _evaluated(question, evaluators, vocabulary, counter)


def predictions_of(question: Question, vocabulary: Vocabulary) -> Iterable[PredictionBatch]:
    """The predictions of a question as batches, where they are pairs.

    Raises:
        DataError: they were made for another benchmark or with other classes.
    """
    if _is_list(question):
        return read_hoi_lists(question.predictions, vocabulary, coco_ids=question.coco_ids)
    reader = read_predictions(question.predictions)
    if reader.benchmark != question.benchmark:
        raise DataError(
            f"{question.predictions} holds predictions for {reader.benchmark}, not for {question.benchmark}"
        )
    if (reader.objects, reader.verbs) != (vocabulary.objects, vocabulary.verbs):
        raise DataError(
            f"{question.predictions} was predicted with other classes than {question.annotations} has; predict with its classes"
        )
    return reader


def _is_list(question: Question) -> bool:
    return question.predictions.suffix == ".json"


def _official_files(question: Question, instances: Path) -> Answer:
    if question.benchmark != "v_coco":
        raise ParameterError(f"COCO instances go with v_coco, not {question.benchmark}: leave --instances out")
    truth = read_official_annotations(question.annotations, instances)
    if is_official_content(question.predictions):
        return _content(question, truth)
    if question.classes is None:
        raise ParameterError(f"{question.predictions} scores verbs by number: name them with --classes classes.json")
    vocabulary = read_vocabulary(question.classes)
    if actions_of_vocabulary(vocabulary) != truth.actions:
        raise DataError(
            f"{question.classes}: groups.actions are not those of {question.annotations} in its order; predict with them"
        )
    return _evaluated(question, [VcocoOfficialEvaluator(truth, vocabulary)], vocabulary)


def _content(question: Question, truth: OfficialTruth) -> Answer:
    detections = read_official_content(question.predictions, truth)
    return Answer(evaluate_official(truth, detections), _counts(truth, len(set(detections.image.tolist()))))


def _counts(truth: Annotated, predicted: int) -> dict[str, int]:
    return {"images": len(truth), "images_without_predictions": len(truth) - predicted}


def _evaluated(
    question: Question, evaluators: Suite, vocabulary: Vocabulary, causes: CauseCounter | None = None
) -> Answer:
    for evaluator in evaluators:
        evaluator.listed_only = _is_list(question)
    batches = predictions_of(question, vocabulary)
    results = judge(evaluators, batches if causes is None else causes.watch(batches))
    return Answer(results, evaluators[0].counts, causes)
