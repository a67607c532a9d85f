"""Ground truth of a benchmark from scene tables or published annotation files.

| argument                          | what it is                                                                                |
|-----------------------------------|-------------------------------------------------------------------------------------------|
| folder                            | a scene table, in one or several buckets; the classes.json lies beside it or is given      |
| `instances_test2015.json`         | HICO-DET as in github fredzzhang/hicodet: per image `boxes_h`, `boxes_o`, `verb`, `object` |
| `instances_vcoco_test.json`       | V-COCO pairs as in github fredzzhang/vcoco: per image `boxes_h`, `boxes_o`, `actions`      |
| `test_hico.json`, `test_vcoco.json` | HOIA form, as QPIC reads it: COCO category ids, HICO-DET verbs from 1, V-COCO verbs from 0 |

The official V-COCO annotations (actions with roles, and COCO instances) are read by `v_coco/official_files.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlip_assets.datasets.scenes.scene import NO_OBJECT
from rlip_assets.datasets.sources.classes import hico_classes, v_coco_classes
from rlip_assets.evaluation.core.ground_truth import (
    AnnotatedImage,
    GroundTruth,
    annotated_place,
    benchmark_scenes,
    ground_truth_of,
    ground_truth_of_list,
)
from rlip_assets.evaluation.core.vocabulary import (
    Vocabulary,
    read_vocabulary,
    vocabulary_of_classes,
)
from rlip_assets.evaluation.formats.class_lists import coco_ids
from rlip_assets.evaluation.formats.json_values import (
    BOX,
    LIST,
    NUMERAL,
    SIZE,
    TEXT,
    WHOLE,
    boxes,
    checked,
    column,
    field,
    integers,
    read_json,
    values,
)
from rlip_assets.lineage.layout import classes_file
from rlip_assets.storage.errors import DataError, InputError

PAIRS_ONLY = "pairs_only"
"""Entry of `groups` that says: the annotations lack persons and roles without a box, which the official V-COCO evaluation needs."""


def read_annotations(
    path: Path, classes: Path | None = None, split: str = "test", benchmark: str = "hico_det"
) -> tuple[GroundTruth, Vocabulary]:
    """Read annotated test images and their classes.

    Args:
        path: a scene table folder or one of the files above.
        classes: the classes.json of a scene table; default: that in the folder or one of the two above it, or the project's own.
        split: which images of a scene table.
        benchmark: whose verbs a file in HOIA form numbers.

    Raises:
        InputError: a file that is missing, not whole, or of none of these forms.
        DataError: an entry that breaks its form; names file, image, field and value.
    """
    path = Path(path)
    if path.is_dir():
        vocabulary = read_vocabulary(classes or classes_of(path))
        return ground_truth_of_list(benchmark_scenes(path, split), vocabulary, str(path)), vocabulary
    content = read_json(path)
    if isinstance(content, dict) and {"annotation", "filenames", "correspondence"} <= set(content):
        return hicodet_pairs(content, str(path))
    if isinstance(content, dict) and {"annotations", "classes", "action_to_object"} <= set(content):
        return vcoco_pairs(content, str(path))
    if isinstance(content, list) and content and isinstance(content[0], dict) and "hoi_annotation" in content[0]:
        return hoia_images(content, str(path), benchmark)
    raise InputError(
        f"{path} is no annotation file that this version knows; give a scene table folder and its classes.json"
    )


def classes_of(table: Path) -> Path:
    """Return the classes.json of a scene table or of one of its buckets: the one beside it, or the one that the project keeps."""
    table = table.resolve()
    beside = [folder / "classes.json" for folder in (table, table.parent, table.parent.parent)]
    kept = [
        folder.parents[2] / classes_file(folder.name) for folder in (table, table.parent) if len(folder.parents) > 2
    ]
    return next((place for place in (*beside, *kept) if place.is_file()), beside[0])


def hicodet_pairs(content: Mapping[str, Any], where: str) -> tuple[GroundTruth, Vocabulary]:
    """Read a HICO-DET pair list: boxes are xyxy pixels counted from 1, image ids are the file names."""
    names = {
        key: tuple(name.replace("_", " ") for name in values(content, key, TEXT, where)) for key in ("objects", "verbs")
    }
    table = _integer_rows(content, "correspondence", 3, where)
    if sorted(row[0] for row in table) != list(range(len(table))):
        raise DataError(
            f"{where}: correspondence does not number its interactions 0..{len(table) - 1}; fetch the file again"
        )
    hois = [(verb, label) for _, label, verb in sorted(table)]
    vocabulary = vocabulary_of_classes(
        {
            "dataset": "hico_det",
            "objects": names["objects"],
            "relations": names["verbs"],
            "hois": hois,
            "rare": values(content, "rare", WHOLE, where),
        },
        where,
    )
    files = values(content, "filenames", TEXT, where)
    sizes, rows = values(content, "size", SIZE, where), field(content, "annotation", LIST, where)
    if not len(files) == len(sizes) == len(rows):
        raise DataError(
            f"{where} lists {len(files)} filenames, {len(sizes)} sizes and {len(rows)} annotations; fetch it again"
        )
    images = [
        _of_pairs(name, (int(size[0]), int(size[1])), row, "object", "verb", 0, vocabulary.person, where)
        for name, size, row in zip(files, sizes, rows, strict=True)
    ]
    return ground_truth_of(images, origin=1, source=where), vocabulary


def vcoco_pairs(content: Mapping[str, Any], where: str) -> tuple[GroundTruth, Vocabulary]:
    """Read a V-COCO pair list (24 action roles, pairs with an object only): boxes are xyxy pixels, image ids are the file names."""
    objects, verbs = values(content, "objects", TEXT, where)[1:], values(content, "classes", TEXT, where)
    valid = _integer_rows(content, "action_to_object", None, where)
    hois = [(verb, label - 1) for verb, labels in enumerate(valid) for label in labels if label > 0]
    groups = {"actions": verbs, PAIRS_ONLY: True}
    vocabulary = vocabulary_of_classes(
        {"dataset": "v_coco", "objects": objects, "relations": verbs, "hois": hois, "groups": groups}, where
    )
    rows = field(content, "annotations", LIST, where)
    names = column(rows, "file_name", TEXT, f"{where}: annotations")
    images = [
        _of_pairs(name, (0, 0), row, "objects", "actions", 1, vocabulary.person, where)
        for name, row in zip(names, rows, strict=True)
    ]
    return ground_truth_of(images, source=where), vocabulary


def hoia_images(content: Sequence[Any], where: str, benchmark: str) -> tuple[GroundTruth, Vocabulary]:
    """Read HICO-DET or V-COCO in HOIA form: boxes are xyxy pixels, image ids are the file names."""
    official = {"hico_det": hico_classes, "v_coco": v_coco_classes}
    if benchmark not in official:
        raise InputError(f"{where} is in HOIA form, which is one of hico_det and v_coco, not of {benchmark}")
    vocabulary = vocabulary_of_classes(official[benchmark]().model_dump(), where)
    labels = coco_ids(benchmark).objects_in(vocabulary)[:-1]
    first_verb = 1 if benchmark == "hico_det" else 0
    images = []
    for row, image in enumerate(content):
        image_id = field(image, "file_name", TEXT, f"{where}, row {row}")
        place = annotated_place(where, image_id)
        rows, pairs = field(image, "annotations", LIST, place), field(image, "hoi_annotation", LIST, place)
        numbers = integers(column(rows, "category_id", NUMERAL, f"{place}: annotations"))
        inside = (numbers >= 0) & (numbers < len(labels))
        own = np.where(inside, labels[np.where(inside, numbers, 0)], -1)
        if (own < 0).any():
            raise DataError(f"{place}: {numbers[np.argmax(own < 0)]} is no COCO category id; correct the annotations")
        ends = [
            integers(column(pairs, name, NUMERAL, f"{place}: hoi_annotation")) for name in ("subject_id", "object_id")
        ]
        verbs = integers(column(pairs, "category_id", NUMERAL, f"{place}: hoi_annotation")) - first_verb
        least = (0, NO_OBJECT if benchmark == "v_coco" else 0)
        if any(((end < low) | (end >= len(own))).any() for end, low in zip(ends, least, strict=True)):
            raise DataError(f"{place}: subject_id or object_id is outside its {len(own)} annotations; correct them")
        found = boxes(column(rows, "bbox", BOX, f"{place}: annotations"))
        images.append(AnnotatedImage(image_id, (0, 0), found, own, np.stack([*ends, verbs], axis=1)))
    return ground_truth_of(images, source=where), vocabulary


def _integer_rows(content: Mapping[str, Any], name: str, width: int | None, where: str) -> list[tuple[int, ...]]:
    """The lists of whole numbers under a field, each of `width`."""
    found = []
    for number, row in enumerate(values(content, name, LIST, where)):
        numbers = checked(row, WHOLE, f"{where}: {name}, row {number}")
        if width is not None and len(numbers) != width:
            raise DataError(
                f"{where}: {name}, row {number} has {len(numbers)} numbers, not {width}; fetch the file again"
            )
        found.append(tuple(int(each) for each in numbers))
    return found


def _of_pairs(
    image_id: str,
    size: tuple[int, int],
    row: Any,
    labels: str,
    verbs: str,
    first_label: int,
    person: int,
    where: str,
) -> AnnotatedImage:
    """One image from its pairs; a box that several pairs share is kept once per label.

    Args:
        row: `boxes_h`, `boxes_o`, and under the keys `labels` and `verbs` the object label (counted from `first_label`) and verb of
            each pair.
    """
    place = annotated_place(where, image_id)
    ends = [values(row, name, BOX, place) for name in ("boxes_h", "boxes_o")]
    classes = [[int(number) for number in values(row, name, WHOLE, place)] for name in (labels, verbs)]
    if len({len(each) for each in (*ends, *classes)}) > 1:
        counts = (
            f"{len(ends[0])} boxes_h, {len(ends[1])} boxes_o, {len(classes[0])} {labels}, {len(classes[1])} {verbs}"
        )
        raise DataError(f"{place}: {counts}; a pair needs one of each")
    known: dict[tuple[float, ...], int] = {}
    relations = []
    for subject, target, label, verb in zip(*ends, *classes, strict=True):
        first = known.setdefault((person, *subject), len(known))
        second = known.setdefault((label - first_label, *target), len(known))
        relations.append((first, second, verb))
    table = np.array(list(known), np.float64).reshape(-1, 5)
    return AnnotatedImage(image_id, size, table[:, 1:], table[:, 0], relations)
