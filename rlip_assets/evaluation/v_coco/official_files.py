"""Official V-COCO annotations: the action file (`vcoco_test.json`) with COCO's instances of the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rlip_assets.evaluation.formats.json_values import boxes_of, read_json
from rlip_assets.evaluation.v_coco.actions import ROLES, Actions, actions_of_names
from rlip_assets.evaluation.v_coco.ground_truth import CocoBoxes, OfficialTruth, official_truth_of_coco
from rlip_assets.storage.errors import DataError

AGENT = "agent"


def read_official_annotations(actions_file: Path, instances_file: Path) -> OfficialTruth:
    """Annotations of the images that the action file names, by ascending COCO id.

    Verbs are numbered action by action, roles in the file's order.

    Raises:
        InputError: a missing or broken file.
        DataError: entries that do not fit together; names the file and the action or image.
    """
    content, instances = read_json(actions_file), read_json(instances_file)
    try:
        named = [(entry["action_name"], [role for role in entry["role_name"] if role != AGENT]) for entry in content]
        agents = {
            int(annotation): int(image)
            for entry in content
            for annotation, image in zip(entry["ann_id"], entry["image_id"], strict=True)
        }
        sizes_of = {int(image["id"]): (int(image["width"]), int(image["height"])) for image in instances["images"]}
        boxes = list(instances["annotations"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{actions_file} and {instances_file}: not V-COCO actions and COCO instances ({error!r}); fetch them again"
        ) from None
    actions = _actions(named, actions_file)
    image_ids = sorted(set(agents.values()))
    missing = [image_id for image_id in image_ids if image_id not in sizes_of]
    if missing:
        raise DataError(
            f"{instances_file} lacks image {missing[0]}; give the instances of the images of {actions_file}"
        )
    coco = _coco_boxes(boxes, {image_id: place for place, image_id in enumerate(image_ids)}, instances_file)
    column = {annotation: place for place, annotation in enumerate(agents)}
    places = max((len(roles) for _, roles in named), default=0)
    does = np.zeros((len(named), len(agents)), np.int64)
    fillers = np.zeros((len(named), len(agents), places), np.int64)
    for action, entry in enumerate(content):
        columns = np.array([column[int(annotation)] for annotation in entry["ann_id"]], np.int64)
        does[action, columns] = np.array(entry["label"], np.int64)
        flat = _role_major(entry, actions_file)
        for place, role in enumerate(entry["role_name"]):
            if role != AGENT:
                fillers[action, columns, named[action][1].index(role)] = flat[place]
    return official_truth_of_coco(
        tuple(str(image_id) for image_id in image_ids),
        np.array([sizes_of[image_id] for image_id in image_ids], np.int64).reshape(-1, 2),
        actions,
        coco,
        np.array(list(agents), np.int64),
        does,
        fillers,
    )


def _coco_boxes(rows: list[dict[str, Any]], number: dict[int, int], path: Path) -> CocoBoxes:
    """The instances of the images in `number` (COCO id to place).

    Raises:
        DataError: an instance that lacks a field or holds something else than numbers; names it.
    """
    found = []
    for place, row in enumerate(rows):
        try:
            if int(row["image_id"]) in number:
                box = boxes_of([row["bbox"]])[0]
                if not np.isfinite(box).all():
                    raise ValueError(f"bbox {row['bbox']} is not finite")
                image, area = number[int(row["image_id"])], float(row["area"])
                found.append((int(row["id"]), image, int(row["category_id"]), box, area, bool(row.get("ignore", 0))))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: annotations, row {place}: {error!r}; fetch the file again") from None
    ids, images, categories, boxes, areas, ignored = zip(*found, strict=True) if found else [()] * 6
    return CocoBoxes(
        ids=np.array(ids, np.int64),
        image=np.array(images, np.int64),
        category=np.array(categories, np.int64),
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        area=np.array(areas, np.float64),
        ignored=np.array(ignored, bool),
    )


def _actions(named: list[tuple[str, list[str]]], path: Path) -> Actions:
    unknown = [role for _, roles in named for role in roles if role not in ROLES]
    if unknown:
        raise DataError(f"{path}: role {unknown[0]!r} is none of {', '.join(ROLES)}")
    return actions_of_names([f"{name}_{role}" if role else name for name, roles in named for role in roles or [""]])


def _role_major(entry: dict[str, Any], path: Path) -> np.ndarray:
    """(roles, N) annotation ids from the flat list, which goes role by role."""
    flat = np.array(entry["role_object_id"], np.int64)
    if flat.size != len(entry["role_name"]) * len(entry["ann_id"]):
        raise DataError(f"{path}: action {entry['action_name']!r} lists {flat.size} role objects; fetch the file again")
    return flat.reshape(len(entry["role_name"]), -1)
