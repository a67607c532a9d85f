"""Annotations of a benchmark from what people have: a scene table with its classes.json, or a widely used pair list.

| argument                          | what it is                                                                                |
|-----------------------------------|-------------------------------------------------------------------------------------------|
| folder                            | a scene table; the classes.json lies beside it or is given                                |
| `instances_test2015.json`         | HICO-DET as in github fredzzhang/hicodet: per image `boxes_h`, `boxes_o`, `verb`, `object` |
| `instances_vcoco_test.json`       | V-COCO pairs as in github fredzzhang/vcoco: per image `boxes_h`, `boxes_o`, `actions`      |

The official V-COCO annotations (actions with roles, and COCO instances) are read by `v_coco_official_files.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rlip_assets.datasets.sources.classes import hico_classes
from rlip_assets.evaluation.core.ground_truth import (
    AnnotatedImage,
    GroundTruth,
    annotated_place,
    ground_truth_of,
    ground_truth_of_scenes,
)
from rlip_assets.evaluation.core.vocabulary import PERSON, Vocabulary, read_vocabulary
from rlip_assets.evaluation.formats.json_values import boxes_of, integers_of, read_json
from rlip_assets.storage.errors import DataError, InputError

PAIRS_ONLY = "pairs_only"
"""Entry of `groups` that says: the annotations lack persons and roles without a box, which the official V-COCO evaluation needs."""


def read_annotations(path: Path, classes: Path | None = None, split: str = "test") -> tuple[GroundTruth, Vocabulary]:
    """Annotated test images and their classes.

    Args:
        path: a scene table folder or one of the files above.
        classes: the classes.json of a scene table; default: `classes.json` in the folder or its parent.
        split: which images of a scene table.

    Raises:
        InputError: a file that is missing, not whole, or of none of these forms.
        DataError: an entry that breaks its form; names the image.
    """
    path = Path(path)
    if path.is_dir():
        candidates = [classes] if classes else [path / "classes.json", path.parent / "classes.json"]
        found = next((each for each in candidates if each.is_file()), candidates[0])
        vocabulary = read_vocabulary(found)
        return ground_truth_of_scenes(path, vocabulary, split), vocabulary
    content = read_json(path)
    if isinstance(content, dict) and {"annotation", "filenames", "correspondence"} <= set(content):
        return hicodet_pairs(content, str(path))
    if isinstance(content, dict) and {"annotations", "classes", "action_to_object"} <= set(content):
        return vcoco_pairs(content, str(path))
    raise InputError(
        f"{path} is no annotation file that this version knows; give a scene table folder and its classes.json"
    )


def hicodet_pairs(content: Mapping[str, Any], where: str) -> tuple[GroundTruth, Vocabulary]:
    """HICO-DET pair list: boxes are xyxy pixels counted from 1, image ids are the file names."""
    try:
        objects = tuple(name.replace("_", " ") for name in content["objects"])
        hois: list[tuple[int, int]] = [(0, 0)] * len(content["correspondence"])
        for hoi, label, verb in content["correspondence"]:
            hois[hoi] = (verb, label)
        vocabulary = Vocabulary(
            "hico_det",
            objects,
            tuple(name.replace("_", " ") for name in content["verbs"]),
            tuple(hois),
            tuple(content["rare"]),
        )
        vocabulary = replace(vocabulary, splits=_official_splits(vocabulary))
        person = vocabulary.person
        rows = list(zip(content["filenames"], content["size"], content["annotation"], strict=True))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{where}: not a HICO-DET pair list ({error!r}); fetch it again") from None
    images = [_of_pairs(name, size, row, "object", "verb", 0, person, where) for name, size, row in rows]
    return ground_truth_of(images, origin=1, source=where), vocabulary


def _official_splits(vocabulary: Vocabulary) -> dict[str, tuple[int, ...]]:
    """Zero-shot splits of the official 600 interactions under the ids of `vocabulary`; none where it names other interactions."""
    official = hico_classes()
    verbs = official.relations or []
    names = [(verbs[verb], official.objects[label]) for verb, label in official.hois or []]
    ids = {(vocabulary.verbs[verb], vocabulary.objects[label]): i for i, (verb, label) in enumerate(vocabulary.hois)}
    if set(names) != set(ids):
        return {}
    return {split: tuple(ids[names[i]] for i in unseen) for split, unseen in official.splits.items()}


def vcoco_pairs(content: Mapping[str, Any], where: str) -> tuple[GroundTruth, Vocabulary]:
    """V-COCO pair list (24 action-roles, pairs with an object only): boxes are xyxy pixels, image ids are the file names."""
    try:
        objects = tuple(content["objects"][1:])  # without "background"
        hois = [
            (verb, label - 1)
            for verb, labels in enumerate(content["action_to_object"])
            for label in labels
            if label > 0
        ]
        verbs = tuple(content["classes"])
        vocabulary = Vocabulary(
            "v_coco", objects, verbs, tuple(hois), groups={"actions": list(verbs), PAIRS_ONLY: True}
        )
        person = objects.index(PERSON)
        rows = [(row["file_name"], row) for row in content["annotations"]]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{where}: not a V-COCO pair list ({error!r}); fetch it again") from None
    images = [_of_pairs(name, (0, 0), row, "objects", "actions", 1, person, where) for name, row in rows]
    return ground_truth_of(images, source=where), vocabulary


def _of_pairs(
    image_id: str,
    size: Sequence[int],
    row: Mapping[str, Any],
    labels: str,
    verbs: str,
    first_label: int,
    person: int,
    where: str,
) -> AnnotatedImage:
    """One image from its pairs; a box that several pairs share is kept once a label.

    Args:
        row: `boxes_h`, `boxes_o`, and under the keys `labels` and `verbs` the object label (counted from `first_label`) and verb of
            each pair.
    """
    known: dict[tuple[float, ...], int] = {}
    relations = []
    try:
        width, height = (int(side) for side in size)
        ends = boxes_of(row["boxes_h"]), boxes_of(row["boxes_o"])
        classes = integers_of(row[labels]) - first_label, integers_of(row[verbs])
        if len({len(each) for each in (*ends, *classes)}) > 1:
            counts = (
                f"{len(ends[0])} boxes_h, {len(ends[1])} boxes_o, {len(classes[0])} {labels}, {len(classes[1])} {verbs}"
            )
            raise ValueError(f"{counts}: a pair needs one of each")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{annotated_place(where, image_id)}: {error}; fetch the file again") from None
    for subject, target, label, verb in zip(*(each.tolist() for each in (*ends, *classes)), strict=True):
        first = known.setdefault((person, *subject), len(known))
        second = known.setdefault((label, *target), len(known))
        relations.append((first, second, verb))
    boxes = np.array(list(known), np.float64).reshape(-1, 5)
    return AnnotatedImage(image_id, (width, height), boxes[:, 1:], boxes[:, 0], relations)
