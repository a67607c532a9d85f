"""Predictions from the JSON lists that human-object detectors write, one record per image.

The file is a list of records, each with `image_id` (or `file_name`, `filename`), or an object from image id to record, or the
printed results of GEN-VLKT and HOICLIP (a JSON text that holds a Python dict with such a list under `preds`). M triplets per image:

* UPT, PViC: `boxes` (n, 4); `pairing` (2, M) or (M, 2), person and object box; `scores` (M,); `labels` (M,), verbs; `objects` (M,).
* QPIC, CDN (after PPDM): `predictions`, a list of `bbox` and `category_id`; `hoi_prediction`, a list of `subject_id`, `object_id`
  (rows of `predictions`), `category_id` (verb) and `score`.
* GEN-VLKT, HOICLIP: as QPIC, but `category_id` of `hoi_prediction` is one of HICO-DET's 600 interactions, counted from 0.

Boxes are xyxy pixels of the original image. What the numbers stand for: `class_lists`.

A list names triplets, not score matrices. What it does not name was not detected: cells without a triplet, and triplets with score 0,
take no part in any protocol (`Evaluator.listed_only`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlip_assets.evaluation.formats.json_values import (
    BOX,
    IMAGE_ID,
    LIST,
    NUMBER,
    WHOLE,
    boxes,
    checked,
    column,
    field,
    image_id_of,
    integers,
    read_json,
    shown,
    values,
)
from rlip_assets.evaluation.formats.triplets import NO_LABEL, PERSON_BY_FORM, Triplets
from rlip_assets.storage.errors import DataError, InputError

ID_FIELDS = ("image_id", "file_name", "filename")
UPT_FIELDS = ("boxes", "pairing", "scores", "labels", "objects")
QPIC_FIELDS = ("predictions", "hoi_prediction")


def read_hoi_lists(path: Path) -> tuple[list[Triplets], bool]:
    """Read a JSON list: the triplets of every image, and whether the form is that of UPT and PViC.

    Raises:
        InputError: no such file, not whole, or of no known form.
        DataError: a record that breaks its form: an image given twice, a field of another kind, lists of different lengths, a box index
            outside its list, a score below 0. The message names file, record, field and value.
    """
    records = list(_records(path))
    first = records[0][1] if records else {}
    forms = {name: isinstance(first, dict) and set(first) >= set(fields) for name, fields in _FORMS.items()}
    if not any(forms.values()):
        raise InputError(
            f"{path} is no list of human-object predictions; each record needs {', '.join(UPT_FIELDS)} or {', '.join(QPIC_FIELDS)}"
        )
    if forms["UPT"]:
        transposed = _pairing_is_transposed(path, [record for _, record, _ in records])
        return [_upt(image_id, record, where, transposed) for image_id, record, where in records], True
    return [_qpic(image_id, record, where) for image_id, record, where in records], False


_FORMS = {"UPT": UPT_FIELDS, "QPIC": QPIC_FIELDS}


def _records(path: Path) -> Iterator[tuple[str, Any, str]]:
    """Image id, record and place of every image."""
    content = read_json(path)
    if isinstance(content, str):
        content = _printed(content, path)
    if isinstance(content, dict) and "preds" in content:
        content = content["preds"]
    if isinstance(content, dict):
        named: Sequence[tuple[Any, Any]] = list(content.items())
    elif isinstance(content, list):
        named = [(_name(record, f"{path}, row {row}"), record) for row, record in enumerate(content)]
    else:
        raise InputError(f"{path} is {shown(content)}, no list of human-object predictions")
    seen: set[str] = set()
    for row, (name, record) in enumerate(named):
        image_id = image_id_of(name)
        where = f"{path}, row {row}: image {image_id!r}"
        if image_id in seen:
            raise DataError(f"{where} occurs twice; keep one record per image")
        seen.add(image_id)
        yield image_id, record, where


def _name(record: Any, where: str) -> Any:
    names = [name for name in ID_FIELDS if isinstance(record, dict) and name in record]
    if not names:
        raise DataError(f"{where} is {shown(record)} and names no image; give it one of {', '.join(ID_FIELDS)}")
    return field(record, names[0], IMAGE_ID, where)


def _printed(text: str, path: Path) -> Any:
    """The content of a printed Python dict of plain values, with or without the names of NumPy's types."""
    plain = re.sub(r"np\.\w+\(([^()]*)\)", r"\1", text).replace("'", '"')
    try:
        return json.loads(re.sub(r"\bnan\b", "NaN", plain))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} holds a text that is no printed list of predictions ({error}); write JSON") from None


def _pairing_is_transposed(path: Path, records: Sequence[Any]) -> bool:
    """Return whether pairings are (M, 2), as PViC has them, and not (2, M); a 2 x 2 alone does not tell.

    Raises:
        DataError: both shapes occur, or every pairing is 2 x 2.
    """
    shapes, undecided = set(), False
    for record in records:
        pairing = record.get("pairing") if isinstance(record, dict) else None
        if not isinstance(pairing, list) or not pairing:
            continue
        if len(pairing) == 2 and isinstance(pairing[0], list) and len(pairing[0]) == 2:
            undecided = True
        elif not (len(pairing) == 2 and pairing == [[], []]):
            shapes.add(len(pairing) != 2)
    if len(shapes) > 1:
        raise DataError(f"{path}: some pairings are (2, M) and some (M, 2); write all of one shape")
    if not shapes and undecided:
        raise DataError(
            f"{path}: pairing is 2 x 2 in every image, so persons and objects cannot be told apart; convert the file with more images"
        )
    return shapes == {True}


def _upt(image_id: str, record: Any, where: str, transposed: bool) -> Triplets:
    """Subjects are persons by the form's definition."""
    scores = values(record, "scores", NUMBER, where)
    rows = [
        checked(row, WHOLE, f"{where}: pairing, row {number}")
        for number, row in enumerate(values(record, "pairing", LIST, where))
    ]
    ends = rows if transposed else list(zip(*rows, strict=True)) if len({len(row) for row in rows}) < 2 else [()]
    if any(len(pair) != 2 for pair in ends):
        raise DataError(
            f"{where}: pairing has rows of {sorted({len(row) for row in rows})} entries; it is (2, M) or (M, 2)"
        )
    objects, verbs = (values(record, name, WHOLE, where) for name in ("objects", "labels"))
    if not len(ends) == len(scores) == len(objects) == len(verbs):
        counts = f"{len(ends)} pairs, {len(scores)} scores, {len(objects)} objects, {len(verbs)} labels"
        raise DataError(f"{where}: {counts}; a triplet needs one of each")
    return Triplets(
        image_id,
        where,
        boxes(values(record, "boxes", BOX, where)),
        integers(number for pair in ends for number in pair).reshape(-1, 2),
        np.full(len(objects), PERSON_BY_FORM, np.int64),
        integers(objects),
        integers(verbs),
        np.array(scores, np.float64),
    )


def _qpic(image_id: str, record: Any, where: str) -> Triplets:
    rows, found = (field(record, name, LIST, where) for name in ("hoi_prediction", "predictions"))
    where_box, where_pair = f"{where}: predictions", f"{where}: hoi_prediction"
    labelled = any(isinstance(each, dict) and "category_id" in each for each in found)
    labels = integers(column(found, "category_id", WHOLE, where_box)) if labelled else np.full(len(found), NO_LABEL)
    ends = np.stack([integers(column(rows, name, WHOLE, where_pair)) for name in ("subject_id", "object_id")], axis=1)
    of_box = np.append(labels, NO_LABEL)  # a box index outside the list is refused by `Triplets`
    subjects, objects = of_box[np.where((ends >= 0) & (ends < len(labels)), ends, len(labels))].T
    return Triplets(
        image_id,
        where,
        boxes(column(found, "bbox", BOX, where_box)),
        ends,
        subjects,
        objects,
        integers(column(rows, "category_id", WHOLE, where_pair)),
        np.array(column(rows, "score", NUMBER, where_pair), np.float64),
    )
