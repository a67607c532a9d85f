"""Judges files in the forms in common use: predictions and annotations in any of the known ones.

| predictions                                      | read by                |
|--------------------------------------------------|------------------------|
| Parquet of this project                          | `predictions.py`       |
| JSON list of UPT, PViC, QPIC, CDN, GEN-VLKT, ... | `hoi_lists.py`         |
| folder of Matlab files of UPT and PViC           | `mat_cache.py`         |
| official V-COCO content, JSON or Parquet         | `v_coco/content.py`    |

Labels are translated by name (`class_lists.py`), images found by their names with or without folder and ending (`image_names.py`).
Annotations: `annotations.py`; official V-COCO action files, together with COCO instances, in `v_coco/official_files.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rlip_assets.evaluation.core.evaluator import Annotated
from rlip_assets.evaluation.core.ground_truth import GroundTruth
from rlip_assets.evaluation.core.image_names import ImageNames
from rlip_assets.evaluation.core.results import ProtocolResult
from rlip_assets.evaluation.core.vocabulary import Vocabulary, read_vocabulary
from rlip_assets.evaluation.errors_by_cause import CauseCounter
from rlip_assets.evaluation.formats.annotations import PAIRS_ONLY, read_annotations
from rlip_assets.evaluation.formats.class_lists import ClassList, coco_order
from rlip_assets.evaluation.formats.hoi_lists import read_hoi_lists
from rlip_assets.evaluation.formats.mat_cache import is_mat_cache, read_mat_cache
from rlip_assets.evaluation.formats.numbering import class_list_of
from rlip_assets.evaluation.formats.predictions import PredictionBatch, PredictionReader, read_predictions
from rlip_assets.evaluation.formats.triplets import ListedPredictions
from rlip_assets.evaluation.hico_det.known_object import read_known_objects
from rlip_assets.evaluation.suites import Suite, judge, suite
from rlip_assets.evaluation.suspicions import UNIT, LabelWatch, is_zero, suspicions
from rlip_assets.evaluation.v_coco.actions import actions_of_vocabulary
from rlip_assets.evaluation.v_coco.content import is_official_content, read_official_content
from rlip_assets.evaluation.v_coco.ground_truth import OfficialTruth, official_truth_of_pairs
from rlip_assets.evaluation.v_coco.official import VcocoOfficialEvaluator, evaluate_official
from rlip_assets.evaluation.v_coco.official_files import official_vocabulary, read_official_annotations
from rlip_assets.storage.errors import DataError, InputError, ParameterError

PICKLES = (".pkl", ".pickle")


@dataclass(frozen=True)
class Request:
    """Files to be judged, and the settings.

    Attributes:
        benchmark: "hico_det", "v_coco" or "open_images".
        predictions, annotations: files of the forms above, or a scene table folder for the annotations.
        classes: classes.json where it does not lie beside the scene table.
        split: which images of a scene table.
        instances: COCO instances, if `annotations` is an official V-COCO action file.
        coco_ids: labels in a QPIC list are COCO category ids, verbs from 1.
        unseen, zero_shot: see `suite`.
        image_labels: HICO's image labels (see `read_known_objects`); adds the Known-Object setting.
        list_classes: JSON file that names the classes of a list (see `read_class_list`), where they are not the published ones.
    """

    benchmark: str
    predictions: Path
    annotations: Path
    classes: Path | None = None
    split: str = "test"
    instances: Path | None = None
    coco_ids: bool = False
    unseen: str | Sequence[tuple[str, str]] | None = None
    zero_shot: bool = False
    image_labels: Path | None = None
    list_classes: Path | None = None


class Evaluation(NamedTuple):
    """Results of an evaluation.

    Attributes:
        results: of every protocol that the files allow.
        counts: what they rest on (`Evaluator.counts`).
        causes: of errors, where they were asked for and the predictions are pairs; the content of official V-COCO results is not.
        suspicions: sentences that say what looks like a misunderstanding of the files.
    """

    results: list[ProtocolResult]
    counts: Mapping[str, int]
    causes: CauseCounter | None = None
    suspicions: tuple[str, ...] = ()


def evaluate_files(request: Request, causes: bool = False) -> Evaluation:
    """Judge a file of predictions.

    Args:
        causes: count the causes of errors too, which takes a few seconds more.

    Raises:
        RlipError: a file that is missing, broken or of another form or benchmark; names file, row and remedy.
    """
    if not request.predictions.is_file() and not is_mat_cache(request.predictions):
        what = "is no file" if request.predictions.exists() else "does not exist"
        raise InputError(f"{request.predictions} {what}; give a file of predictions")
    if request.predictions.suffix in PICKLES:
        raise InputError(
            f"{request.predictions}: pickles can run code and are not opened; write its content as .json or .parquet"
        )
    if request.instances is not None:
        return _official_files(request, request.instances)
    truth, vocabulary = read_annotations(request.annotations, request.classes, request.split, request.benchmark)
    if vocabulary.dataset != request.benchmark:
        raise ParameterError(
            f"{request.annotations} annotates {vocabulary.dataset}, not {request.benchmark}: name the other benchmark"
        )
    if is_official_content(request.predictions):
        if request.benchmark != "v_coco" or PAIRS_ONLY in vocabulary.groups:
            raise ParameterError(
                f"{request.predictions} holds official V-COCO results; give a V-COCO scene table, or the official action file with "
                "COCO's instances, as annotations"
            )
        return _content(request, official_truth_of_pairs(truth, actions_of_vocabulary(vocabulary), vocabulary.person))
    known = None
    if request.image_labels is not None:
        if request.benchmark != "hico_det":
            raise ParameterError(f"image labels go with hico_det, not {request.benchmark}: leave --image-labels out")
        known = read_known_objects(request.image_labels, vocabulary, ImageNames(truth.image_ids))
    evaluators = suite(truth, vocabulary, zero_shot=request.zero_shot, unseen=request.unseen, known_objects=known)
    counter = None
    if causes:
        counter = CauseCounter(
            truth,
            vocabulary,
            persons=request.benchmark != "open_images",
            listed_only=not _is_parquet(request),
            person_filter=request.zero_shot and request.benchmark == "hico_det",
        )
    return _evaluated(request, evaluators, vocabulary, truth, counter)


class Predictions:
    """The predictions of a request as batches, where they are pairs: in the benchmark's classes, under its image ids.

    Args:
        image_ids: the annotated images.

    Raises:
        DataError: they were made for another benchmark or with other classes, or their class list cannot be known.
    """

    def __init__(self, request: Request, vocabulary: Vocabulary, image_ids: tuple[str, ...]) -> None:
        self._names = ImageNames(image_ids)
        self._watch: LabelWatch | None = None
        if _is_parquet(request):
            self._batches, self._watch = _parquet(request, vocabulary)
            return
        if is_mat_cache(request.predictions):
            if request.benchmark != "hico_det":
                raise ParameterError(f"{request.predictions} is a cache of HICO-DET, not of {request.benchmark}")
            images, classes = read_mat_cache(request.predictions, image_ids), coco_order("hico_det")
            self._batches = ListedPredictions(request.predictions, images, classes, vocabulary)
            return
        images, pairs_form = read_hoi_lists(request.predictions)
        classes, numbered, signs = class_list_of(
            request.predictions, images, pairs_form, vocabulary, request.list_classes, request.coco_ids
        )
        self._batches = ListedPredictions(
            request.predictions, numbered, classes, vocabulary, signs, repeats=numbered is not images
        )

    def __iter__(self) -> Iterator[PredictionBatch]:
        for batch in self._batches:
            yield replace(batch, image_ids=tuple(self._names.find(name) or name for name in batch.image_ids))

    @property
    def left_out(self) -> int:
        """Number of listed triplets of classes that the benchmark lacks."""
        return self._batches.left_out if isinstance(self._batches, ListedPredictions) else 0

    def suspicions(self) -> Iterator[str]:
        """Yield what looks like a misunderstanding of the labels, after all batches have passed."""
        if isinstance(self._batches, ListedPredictions):
            yield from self._batches.suspicions
        if self._watch is not None:
            yield from self._watch.suspicions()


def _parquet(request: Request, vocabulary: Vocabulary) -> tuple[Iterable[PredictionBatch], LabelWatch]:
    """The batches of a file of this project in the benchmark's classes, and what looks at their labels as they are in the file."""
    reader = read_predictions(request.predictions)
    if reader.benchmark != request.benchmark:
        raise DataError(f"{request.predictions} holds predictions for {reader.benchmark}, not for {request.benchmark}")
    classes = ClassList(str(reader.path), reader.objects, reader.verbs)
    objects, verbs = classes.objects_in(vocabulary), classes.verbs_in(vocabulary)
    if (objects < 0).any() or set(range(len(vocabulary.verbs))) - set(verbs.tolist()):
        raise DataError(
            f"{request.predictions} was predicted with other classes than {request.annotations} has; predict with its classes"
        )
    valid = None
    if vocabulary.hois:
        valid = np.where((verbs < 0)[:, None], False, vocabulary.valid[verbs][:, objects])
    human = request.benchmark != "open_images" and not request.zero_shot
    watch = LabelWatch(valid, reader.objects.index("person") if human and "person" in reader.objects else None)
    return _Translated(reader, watch, objects, np.argsort(verbs)[np.sort(verbs) >= 0]), watch


class _Translated:
    """Batches with objects and verbs in a benchmark's order.

    Args:
        objects: its label for each of the file's.
        verbs: the file's column for each of its verbs.
    """

    def __init__(self, reader: PredictionReader, watch: LabelWatch, objects: np.ndarray, verbs: np.ndarray) -> None:
        self.reader, self.watch, self.objects, self.verbs = reader, watch, objects.astype(np.int32), verbs
        same = [np.array_equal(order, np.arange(len(order))) for order in (objects, verbs)]
        self.same = all(same) and len(verbs) == len(reader.verbs)

    def __iter__(self) -> Iterator[PredictionBatch]:
        for batch in self.watch.watch(self.reader):
            if self.same:
                yield batch
            else:
                labels = {name: self.objects[getattr(batch, name)] for name in ("sub_labels", "obj_labels")}
                yield replace(batch, **labels, scores=batch.scores[:, self.verbs])


def _is_parquet(request: Request) -> bool:
    return request.predictions.suffix != ".json" and not is_mat_cache(request.predictions)


def _official_files(request: Request, instances: Path) -> Evaluation:
    if request.benchmark != "v_coco":
        raise ParameterError(f"COCO instances go with v_coco, not {request.benchmark}: leave --instances out")
    truth = read_official_annotations(request.annotations, instances)
    if is_official_content(request.predictions):
        return _content(request, truth)
    vocabulary = official_vocabulary(truth)
    if request.classes is not None:
        vocabulary = read_vocabulary(request.classes)
        if actions_of_vocabulary(vocabulary) != truth.actions:
            raise DataError(
                f"{request.classes}: groups.actions are not those of {request.annotations} in its order; predict with them"
            )
    return _evaluated(request, [VcocoOfficialEvaluator(truth, vocabulary)], vocabulary)


def _content(request: Request, truth: OfficialTruth) -> Evaluation:
    detections = read_official_content(request.predictions, truth)
    results = evaluate_official(truth, detections)
    signs = []
    if len(detections.persons) and detections.persons.max() <= UNIT:
        signs.append(
            "no person box reaches beyond a pixel: boxes are pixels of the original image, not fractions of it."
        )
    signs += [
        f"{result.name}: nothing is right; look for boxes in other units." for result in results if is_zero(result)
    ]
    return Evaluation(results, _counts(truth, len(set(detections.image.tolist()))), suspicions=tuple(signs))


def _counts(truth: Annotated, predicted: int) -> dict[str, int]:
    return {"images": len(truth), "images_without_predictions": len(truth) - predicted}


def _evaluated(
    request: Request,
    evaluators: Suite,
    vocabulary: Vocabulary,
    truth: GroundTruth | None = None,
    causes: CauseCounter | None = None,
) -> Evaluation:
    first = evaluators[0]
    for evaluator in evaluators:
        evaluator.listed_only = not _is_parquet(request)
    predictions = Predictions(request, vocabulary, first.truth.image_ids)
    results = judge(evaluators, predictions if causes is None else causes.watch(predictions))
    counts = dict(first.counts)
    if predictions.left_out:
        counts["triplets_of_other_classes"] = predictions.left_out
    signs = [*predictions.suspicions(), *suspicions(results, counts, first.gathered(), truth)]
    return Evaluation(results, counts, causes, tuple(signs))
