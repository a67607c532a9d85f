"""Annotations of a benchmark from what people have: a scene table with its classes.json, or a widely used pair list.

| argument                          | what it is                                                                                |
|-----------------------------------|-------------------------------------------------------------------------------------------|
| folder                            | a scene table; the classes.json lies beside it or is given                                |
| `instances_test2015.json`         | HICO-DET as in github fredzzhang/hicodet: per image `boxes_h`, `boxes_o`, `verb`, `object` |
| `instances_vcoco_test.json`       | V-COCO pairs as in github fredzzhang/vcoco: per image `boxes_h`, `boxes_o`, `actions`      |

The official V-COCO annotations (actions with roles, and COCO instances) are read by `v_coco_official_files.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlip_assets.benchmarks.ground_truth import AnnotatedImage, GroundTruth, ground_truth_of, ground_truth_of_scenes
from rlip_assets.benchmarks.vocabulary import PERSON, Vocabulary, read_vocabulary
from rlip_assets.errors import DataError, InputError

PAIRS_ONLY = "pairs_only"
"""Entry of `groups` that says: the annotations lack persons and roles without a box, which the official V-COCO evaluation needs."""


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        InputError: no such file, or not whole.
    """
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give the annotations of the benchmark's test images") from None
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); fetch it again") from None


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
        person = vocabulary.person
        images = []
        rows = zip(content["filenames"], content["size"], content["annotation"], strict=True)
        for name, size, row in rows:
            images.append(_of_pairs(name, size, row["boxes_h"], row["boxes_o"], row["object"], row["verb"], person))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{where}: not a HICO-DET pair list ({error!r}); fetch it again") from None
    return ground_truth_of(images, origin=1), vocabulary


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
        images = []
        for row in content["annotations"]:
            labels = [label - 1 for label in row["objects"]]
            images.append(
                _of_pairs(row["file_name"], (0, 0), row["boxes_h"], row["boxes_o"], labels, row["actions"], person)
            )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{where}: not a V-COCO pair list ({error!r}); fetch it again") from None
    return ground_truth_of(images), vocabulary


def _of_pairs(
    image_id: str,
    size: Sequence[int],
    boxes_h: Sequence[Sequence[float]],
    boxes_o: Sequence[Sequence[float]],
    labels: Sequence[int],
    verbs: Sequence[int],
    person: int,
) -> AnnotatedImage:
    """One image from its pairs; a box that several pairs share is kept once a label."""
    known: dict[tuple[float, ...], int] = {}
    relations = []
    for subject, target, label, verb in zip(boxes_h, boxes_o, labels, verbs, strict=True):
        first = known.setdefault((person, *subject), len(known))
        second = known.setdefault((label, *target), len(known))
        relations.append((first, second, verb))
    rows = np.array(list(known), np.float64).reshape(-1, 5)
    return AnnotatedImage(image_id, (int(size[0]), int(size[1])), rows[:, 1:], rows[:, 0], relations)
