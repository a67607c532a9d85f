"""Official V-COCO annotations: the action file (`vcoco_test.json`) with COCO's instances of the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rlip_assets.datasets.sources.classes import coco_names
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.json_values import (
    BOX,
    FLAG,
    LIST,
    NUMBER,
    TEXT,
    WHOLE,
    boxes,
    column,
    field,
    integers,
    read_json,
    values,
)
from rlip_assets.evaluation.v_coco.actions import ROLES, Actions, actions_of_names
from rlip_assets.evaluation.v_coco.ground_truth import CocoBoxes, OfficialTruth, official_truth_of_coco
from rlip_assets.storage.errors import DataError

AGENT = "agent"


def read_official_annotations(actions_file: Path, instances_file: Path) -> OfficialTruth:
    """Return the annotations of the images that the action file names, by ascending COCO id.

    Verbs are numbered action by action, roles in the file's order.

    Raises:
        InputError: a missing or broken file.
        DataError: a value of another kind, or entries that do not fit together; names file, row, field and value.
    """
    content, instances = read_json(actions_file), read_json(instances_file)
    where = f"{actions_file}, action"
    if not isinstance(content, list) or not isinstance(instances, dict):
        raise DataError(f"{actions_file} and {instances_file}: not V-COCO actions and COCO instances; fetch them again")
    names = column(content, "action_name", TEXT, where)
    roles = [values(entry, "role_name", TEXT, f"{where} {row}") for row, entry in enumerate(content)]
    people = [[integers(values(entry, name, WHOLE, f"{where} {row}")) for name in ("ann_id", "image_id", "label")]
              for row, entry in enumerate(content)]  # fmt: skip
    for row, lists in enumerate(people):
        if len({len(each) for each in lists}) > 1:
            counts = ", ".join(
                f"{len(each)} {name}s" for name, each in zip(("ann_id", "image_id", "label"), lists, strict=True)
            )
            raise DataError(f"{where} {row} lists {counts}; fetch the file again")
    agents = {
        person: image for ids, images, _ in people for person, image in zip(ids.tolist(), images.tolist(), strict=True)
    }
    image_ids = sorted(set(agents.values()))
    number = {image_id: place for place, image_id in enumerate(image_ids)}
    sizes = _sizes(instances, number, instances_file, actions_file)
    coco = _coco_boxes(instances, number, instances_file)
    actions = _actions(list(zip(names, roles, strict=True)), actions_file)
    place_of = {person: place for place, person in enumerate(agents)}
    does = np.zeros((len(names), len(agents)), np.int64)
    fillers = np.zeros((len(names), len(agents), max(map(len, actions.roles), default=0)), np.int64)
    for action, (ids, _, labels) in enumerate(people):
        own = np.array([place_of[person] for person in ids.tolist()], np.int64)
        does[action, own] = labels
        flat = integers(values(content[action], "role_object_id", WHOLE, f"{where} {action}"))
        if len(flat) != len(roles[action]) * len(ids):
            raise DataError(f"{where} {action} ({names[action]}) lists {len(flat)} role objects; fetch the file again")
        for role, filler in zip(roles[action], flat.reshape(len(roles[action]), -1), strict=True):  # role by role
            if role != AGENT:
                fillers[action, own, actions.roles[action].index(role)] = filler
    names_of_images = tuple(str(image_id) for image_id in image_ids)
    return official_truth_of_coco(
        names_of_images, sizes, actions, coco, np.array(list(agents), np.int64), does, fillers
    )


def official_vocabulary(truth: OfficialTruth) -> Vocabulary:
    """Return COCO's objects, and the action roles of some annotations as verbs."""
    names = [
        truth.actions.names[action]
        if place < 0
        else f"{truth.actions.names[action]}_{truth.actions.roles[action][place]}"
        for action, place in truth.actions.verbs
    ]
    return Vocabulary("v_coco", tuple(coco_names().values()), tuple(names), groups={"actions": names})


def _sizes(instances: dict[str, Any], number: dict[int, int], path: Path, actions_file: Path) -> np.ndarray:
    """(N, 2) width and height of the images in `number` (COCO id to place)."""
    rows = field(instances, "images", LIST, str(path))
    sizes = np.zeros((len(number), 2), np.int64)
    found = set()
    for row, image_id in enumerate(column(rows, "id", WHOLE, f"{path}, images")):
        if image_id in number:
            sides = [field(rows[row], side, WHOLE, f"{path}, images {row}") for side in ("width", "height")]
            sizes[number[image_id]] = sides
            found.add(int(image_id))
    missing = number.keys() - found
    if missing:
        raise DataError(f"{path} lacks image {min(missing)}; give the instances of the images of {actions_file}")
    return sizes


def _coco_boxes(instances: dict[str, Any], number: dict[int, int], path: Path) -> CocoBoxes:
    """The instances of the images in `number`."""
    rows, where = field(instances, "annotations", LIST, str(path)), f"{path}: annotations, row"
    image_ids = column(rows, "image_id", WHOLE, where)
    own = [(row, each) for row, each in enumerate(rows) if image_ids[row] in number]

    def fields(name: str, kind: Any) -> list[Any]:
        return [field(each, name, kind, f"{where} {row}") for row, each in own]

    return CocoBoxes(
        ids=integers(fields("id", WHOLE)),
        image=np.array([number[image_ids[row]] for row, _ in own], np.int64),
        category=integers(fields("category_id", WHOLE)),
        boxes=boxes(fields("bbox", BOX)),
        area=np.array(fields("area", NUMBER), np.float64),
        ignored=np.array([field({"ignore": 0, **each}, "ignore", FLAG, f"{where} {row}") for row, each in own], bool),
    )


def _actions(named: list[tuple[str, list[str]]], path: Path) -> Actions:
    for name, roles in named:
        unknown = [role for role in roles if role not in (AGENT, *ROLES)]
        if unknown or roles.count(AGENT) > 1:
            raise DataError(f"{path}: action {name!r} has the roles {roles}; expected {AGENT}, {', '.join(ROLES)}")
    return actions_of_names(
        [
            f"{name}_{role}" if role else name
            for name, roles in named
            for role in [r for r in roles if r != AGENT] or [""]
        ]
    )
