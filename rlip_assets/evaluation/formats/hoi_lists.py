"""Predictions from the JSON lists that human-object detectors write, one record an image.

The file is a list of records, each with `image_id` (or `file_name`, `filename`), or an object from image id to record. Two forms of
record are known, with M triplets an image:

* UPT, PViC: `boxes` (n, 4); `pairing` (2, M) or (M, 2), person and object box; `scores` (M,); `labels` (M,), verbs; `objects` (M,).
* QPIC, CDN (after PPDM): `predictions`, a list of `bbox` and `category_id`; `hoi_prediction`, a list of `subject_id`, `object_id`
  (rows of `predictions`), `category_id` (verb) and `score`.

Boxes are xyxy pixels of the original image. Labels are indices from 0, as those programs hold them; with `coco_ids` objects are COCO
category ids (1..90, with gaps) and verbs count from 1, as the annotation files of PPDM have them.

A list names triplets, not score matrices. What it does not name was not detected: cells without a triplet, and triplets with score 0,
take no part in any protocol (`Evaluator.listed_only`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.json_values import boxes_of, integers_of, read_json
from rlip_assets.evaluation.formats.predictions import ImagePredictions, PredictionBatch, check_batch
from rlip_assets.storage.errors import DataError, InputError

IMAGES_A_BATCH = 256
ID_FIELDS = ("image_id", "file_name", "filename")
UPT_FIELDS = {"boxes", "pairing", "scores", "labels", "objects"}
QPIC_FIELDS = {"predictions", "hoi_prediction"}
COCO_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = tuple(number for number in range(1, 91) if number not in COCO_GAPS)
"""The ids of COCO's 80 categories in the order of their labels."""
Ints = npt.NDArray[np.int64]


def read_hoi_lists(path: Path, vocabulary: Vocabulary, *, coco_ids: bool = False) -> Iterator[PredictionBatch]:
    """Stream the predictions of a JSON list as batches.

    Raises:
        InputError: no such file, not whole, or of neither form.
        DataError: a record that breaks its form: an image given twice, fields of different lengths, an index or label outside its
            list, a score that is not finite or below 0, a triplet listed twice, a box without four numbers, a label that is no whole
            number. The message names file, record, image and triplet.
    """
    records = _records(path)
    transposed = _pairing_is_transposed(path, records)

    def images() -> Iterator[ImagePredictions]:
        seen: set[str] = set()
        for row, (image_id, record) in enumerate(records):
            where = f"{path}, row {row}: image {image_id!r}"
            if image_id in seen:
                raise DataError(f"{where} occurs twice; keep one record an image")
            seen.add(image_id)
            try:
                triplets = (
                    _upt(record, vocabulary, transposed)
                    if set(record) >= UPT_FIELDS
                    else _qpic(record, vocabulary, coco_ids)
                )
                yield triplets.predictions(image_id, vocabulary, where)
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{where}: not a record of its form ({error}); see the forms in `rlip_assets.evaluation.formats.hoi_lists`"
                ) from None

    stream, first_row = images(), 0
    while chunk := list(islice(stream, IMAGES_A_BATCH)):
        batch = PredictionBatch.of(chunk, len(vocabulary.verbs), str(path), first_row)
        check_batch(batch, len(vocabulary.objects), len(vocabulary.verbs))
        yield batch
        first_row += len(chunk)


class Triplets:
    """M triplets of one image over n boxes.

    Args:
        boxes: (n, 4) xyxy pixels.
        ends: (M, 2) subject and object box.
        labels: (M, 2) subject and object label.
        verbs, scores: (M,)
    """

    def __init__(
        self, boxes: npt.NDArray[np.float32], ends: Ints, labels: Ints, verbs: Ints, scores: npt.NDArray[np.float32]
    ) -> None:
        self.boxes, self.ends, self.labels, self.verbs, self.scores = boxes, ends, labels, verbs, scores

    def predictions(self, image_id: str, vocabulary: Vocabulary, where: str) -> ImagePredictions:
        """As one row a pair of boxes (and their labels), in order of first appearance, with 0 for verbs that are not listed."""
        objects, verbs = len(vocabulary.objects), len(vocabulary.verbs)
        _check_range(self.ends, len(self.boxes), "box index", where)
        _check_range(self.labels[:, 0], objects, "subject label", where)
        _check_range(self.labels[:, 1], objects + 1, "object label", where)
        _check_range(self.verbs, verbs, "verb", where)
        wrong = np.flatnonzero(~np.isfinite(self.scores) | (self.scores < 0))
        if len(wrong):
            raise DataError(
                f"{where}, triplet {wrong[0]}: score {self.scores[wrong[0]]} is no score of a list; write finite ones, at least 0"
            )
        pairs, first, pair = np.unique(
            np.concatenate([self.ends, self.labels], axis=1), axis=0, return_index=True, return_inverse=True
        )
        order = np.argsort(first)
        pair = np.argsort(order)[pair.reshape(-1)]
        cells = pair * verbs + self.verbs
        unique, rows = np.unique(cells, return_index=True)
        if len(unique) < len(cells):
            again = np.setdiff1d(np.arange(len(cells)), rows)[0]
            raise DataError(f"{where}, triplet {again}: it was listed before; keep the better one")
        scores = np.zeros(len(pairs) * verbs, np.float32)
        scores[cells] = self.scores
        subject, target, sub_label, obj_label = pairs[order].T
        return ImagePredictions(
            image_id, self.boxes[subject], self.boxes[target], sub_label, obj_label, scores.reshape(-1, verbs)
        )


def _records(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Image id and record of every image; all records of one known form."""
    content = read_json(path)
    records: list[tuple[str, Mapping[str, Any]]] = []
    if isinstance(content, dict) and all(isinstance(record, dict) for record in content.values()):
        records = list(content.items())
    elif isinstance(content, list) and all(isinstance(record, dict) for record in content):
        for row, record in enumerate(content):
            named = [str(record[field]) for field in ID_FIELDS if field in record]
            if not named:
                raise DataError(f"{path}: record {row} names no image; give it one of {', '.join(ID_FIELDS)}")
            records.append((named[0], record))
    if not records or any(not (set(record) >= UPT_FIELDS or set(record) >= QPIC_FIELDS) for _, record in records):
        raise InputError(
            f"{path} is no list of human-object predictions; each record needs {', '.join(sorted(UPT_FIELDS))} "
            f"or {', '.join(sorted(QPIC_FIELDS))}"
        )
    return records


def _pairing_is_transposed(path: Path, records: Iterable[tuple[str, Mapping[str, Any]]]) -> bool:
    """Whether `pairing` is (M, 2), which UPT and PViC write differently; decided for the whole file, since 2 triplets do not tell."""
    shapes = set()
    undecided = None
    for image_id, record in records:
        if "pairing" not in record or len(record["scores"]) == 0:
            continue
        rows = len(record["pairing"])
        if len(record["scores"]) == 2 and rows == 2:
            undecided = image_id
        else:
            shapes.add(rows != 2)
    if len(shapes) > 1:
        raise DataError(f"{path}: some pairings are (2, M) and some (M, 2); write all of one shape")
    if not shapes and undecided is not None:
        raise DataError(
            f"{path}: image {undecided!r}: pairing is 2 x 2 in every image, so persons and objects cannot be told apart; "
            "convert the file with more images"
        )
    return shapes == {True}


def _upt(record: Mapping[str, Any], vocabulary: Vocabulary, transposed: bool) -> Triplets:
    """Subjects are persons by the form's definition."""
    scores = np.asarray(record["scores"], np.float32).reshape(-1)
    pairing = integers_of(record["pairing"])
    if pairing.size and (pairing.ndim != 2 or pairing.shape[transposed] != 2):
        raise ValueError(f"pairing has shape {pairing.shape}; it is (2, M) or (M, 2)")
    ends = (pairing if transposed else pairing.T).reshape(-1, 2)
    objects, verbs = (integers_of(record[name]) for name in ("objects", "labels"))
    if not len(ends) == len(scores) == len(objects) == len(verbs):
        raise ValueError(f"{len(ends)} pairs, {len(scores)} scores, {len(objects)} objects, {len(verbs)} labels")
    labels = np.stack([np.full(len(objects), vocabulary.person), objects], axis=1).astype(np.int64)
    return Triplets(boxes_of(record["boxes"]).astype(np.float32), ends, labels, verbs, scores)


def _qpic(record: Mapping[str, Any], vocabulary: Vocabulary, coco_ids: bool) -> Triplets:
    rows, found = record["hoi_prediction"], record["predictions"]
    boxes = boxes_of([each["bbox"] for each in found]).astype(np.float32)
    categories = integers_of([each["category_id"] for each in found]).tolist()
    verbs = integers_of([row["category_id"] for row in rows])
    if coco_ids:
        if len(vocabulary.objects) != len(COCO_IDS):
            raise ValueError(
                f"COCO ids need the {len(COCO_IDS)} COCO objects, the benchmark has {len(vocabulary.objects)}"
            )
        unknown = set(categories) - set(COCO_IDS)
        if unknown:
            raise ValueError(f"{min(unknown)} is no COCO category id")
        categories = [COCO_IDS.index(category) for category in categories]
        verbs = verbs - 1
    ends = integers_of([(row["subject_id"], row["object_id"]) for row in rows]).reshape(-1, 2)
    if ends.size and not (ends.min() >= 0 and ends.max() < len(boxes)):
        raise ValueError(f"subject_id or object_id outside its {len(boxes)} predictions")
    labels = np.array(categories, np.int64)[ends] if len(boxes) else np.zeros((0, 2), np.int64)
    return Triplets(boxes, ends, labels, verbs, np.array([row["score"] for row in rows], np.float32))


def _check_range(values: Ints, count: int, what: str, where: str) -> None:
    wrong = np.argwhere((values < 0) | (values >= count))
    if len(wrong):
        value = values[tuple(wrong[0])]
        raise DataError(f"{where}, triplet {wrong[0][0]}: {what} {value} is outside 0..{count - 1}; count from 0")
