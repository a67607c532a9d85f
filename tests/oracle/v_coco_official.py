"""V-COCO as its authors evaluate it: agent AP over 26 actions, role AP over 25 action roles in two scenarios."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .overlap import plain_iou
from .precision import all_point_ap, mean

PERSON = 1
POINT = "point_instr"


@dataclass
class Person:
    """An annotated person. `doing` is None for one without V-COCO labels ("ignore"); `roles` holds the box of each
    (action, role) that has one."""

    box: np.ndarray
    doing: set[str] | None
    roles: dict[str, np.ndarray]

    def does(self, action: str) -> bool:
        return self.doing is not None and action in self.doing


def action_roles(actions: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(action, "<action>_<role>") of every role but the agent."""
    return [
        (action["action_name"], f"{action['action_name']}_{role}")
        for action in actions
        for role in action["role_name"][1:]
    ]


def detection_of_pair(
    image_id: int,
    person_box: np.ndarray,
    object_box: np.ndarray,
    verb_roles: Sequence[str],
    scores: Sequence[float],
    actions: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """One entry of the official results list. `scores` are those of the 29 `verb_roles`; an agent's score is that
    of its action or, where the action has two roles, the better of them, from 0 up. An object box that is not a number means
    "no object"."""
    score_of = dict(zip(verb_roles, scores, strict=True))
    entry: dict[str, Any] = {"image_id": image_id, "person_box": person_box}
    for action in actions:
        name = action["action_name"]
        roles = [f"{name}_{role}" for role in action["role_name"][1:]]
        for role in roles:
            entry[role] = np.array([*object_box, score_of[role]])
        several = max([0.0, *(score_of[role] for role in roles)])
        entry[f"{name}_agent"] = several if len(roles) > 1 else score_of[(roles or [name])[0]]
    return entry


def _clipped_box(annotation: Mapping[str, Any], image: Mapping[str, Any]) -> np.ndarray:
    x, y, width, height = (float(value) for value in annotation["bbox"])
    corners = (x, y, x + max(0.0, width - 1), y + max(0.0, height - 1))
    limits = (image["width"] - 1, image["height"] - 1) * 2
    return np.array([min(max(value, 0.0), float(limit)) for value, limit in zip(corners, limits, strict=True)])


def prepare_ground_truth(
    images: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    actions: Sequence[Mapping[str, Any]],
) -> dict[int, list[Person]]:
    """Image id -> its persons, from the lists of a COCO instances file and the 26 V-COCO actions."""
    image_of = {image["id"]: image for image in images}
    boxes: dict[int, np.ndarray] = {}
    persons: dict[int, Person] = {}
    persons_of: dict[int, list[Person]] = {image_id: [] for image_id in image_of}
    for annotation in annotations:
        if annotation["image_id"] not in image_of or annotation.get("ignore") or not annotation["area"] > 0:
            continue
        box = _clipped_box(annotation, image_of[annotation["image_id"]])
        if not (box[2] > box[0] and box[3] > box[1]):
            continue
        boxes[annotation["id"]] = box
        if annotation["category_id"] == PERSON:
            person = persons[annotation["id"]] = Person(box, None, {})
            persons_of[annotation["image_id"]].append(person)

    for action in actions:
        count = len(action["ann_id"])
        for position, (ann_id, label) in enumerate(zip(action["ann_id"], action["label"], strict=True)):
            if ann_id not in persons:
                continue
            person = persons[ann_id]
            if person.doing is None:
                person.doing = set()
            if label == 1:
                person.doing.add(action["action_name"])
            for role_index, role in enumerate(action["role_name"]):
                object_id = action["role_object_id"][role_index * count + position]
                if role_index > 0 and object_id in boxes:
                    person.roles[f"{action['action_name']}_{role}"] = boxes[object_id]
    return persons_of


def _ranked(detections: Sequence[Mapping[str, Any]], score_of: Any) -> list[tuple[float, Mapping[str, Any]]]:
    """Detections with a score, best first, of equal scores the LATER first."""
    scored = [(float(score_of(detection)), detection) for detection in detections]
    return sorted((entry for entry in scored if not math.isnan(entry[0])), key=lambda entry: entry[0])[::-1]


def _nearest(persons: Sequence[Person], box: np.ndarray) -> tuple[int | None, float]:
    """The annotated person who overlaps most, the first of equals, whatever the overlap; None without persons. An overlap that is
    no number (boxes turned round) beats none."""
    best, best_overlap = (0 if persons else None), -math.inf
    for index, person in enumerate(persons):
        overlap = float(plain_iou(box, person.box))
        if overlap > best_overlap:
            best, best_overlap = index, overlap
    return best, best_overlap


def _role_overlap(person: Person, role: str, box: np.ndarray, scenario: int) -> float:
    if role in person.roles:
        return 0.0 if np.isnan(box).any() else float(plain_iou(person.roles[role], box))
    if scenario == 2:
        return 1.0
    return 1.0 if (box == 0).all() or np.isnan(box).all() else 0.0


def _average_precision(entries: Sequence[tuple[float, bool]], positives: int) -> float:
    """All-points AP, of equal scores the LATER entry first, with recall in single precision (the published cumulative
    sums). Not a number without positives."""
    if positives == 0:
        return math.nan
    curve, true = [], 0
    for rank, (_, hit) in enumerate(sorted(entries, key=lambda entry: entry[0])[::-1], start=1):
        true += hit
        curve.append((float(np.float32(true) / np.float32(positives)), true / rank))
    return all_point_ap(curve)


def _agent_ap(
    persons_of: Mapping[int, Sequence[Person]], detections_of: Mapping[int, Sequence[Mapping[str, Any]]], action: str
) -> dict[str, float]:
    entries: list[tuple[float, bool]] = []
    for image_id, persons in persons_of.items():
        covered = set()
        for score, detection in _ranked(detections_of[image_id], lambda d: d.get(f"{action}_agent", math.nan)):
            index, overlap = _nearest(persons, detection["person_box"])
            if index is not None and persons[index].doing is None:
                continue
            hit = index is not None and persons[index].does(action) and overlap >= 0.5 and index not in covered
            if hit:
                covered.add(index)
            entries.append((score, hit))
    return _row(entries, _positives(persons_of, action))


def _role_ap(
    persons_of: Mapping[int, Sequence[Person]],
    detections_of: Mapping[int, Sequence[Mapping[str, Any]]],
    action: str,
    role: str,
    scenario: int,
) -> dict[str, float]:
    entries: list[tuple[float, bool]] = []
    for image_id, persons in persons_of.items():
        covered = set()
        for score, detection in _ranked(detections_of[image_id], lambda d: d[role][4] if role in d else math.nan):
            index, overlap = _nearest(persons, detection["person_box"])
            if index is not None and persons[index].doing is None:
                continue
            hit = (
                index is not None
                and persons[index].does(action)
                and overlap >= 0.5
                and _role_overlap(persons[index], role, np.asarray(detection[role][:4]), scenario) >= 0.5
                and index not in covered
            )
            if hit:
                covered.add(index)
            entries.append((score, hit))
    return _row(entries, _positives(persons_of, action))


def _positives(persons_of: Mapping[int, Sequence[Person]], action: str) -> int:
    everyone = [person for persons in persons_of.values() for person in persons]
    return sum(person.does(action) for person in everyone)


def _row(entries: Sequence[tuple[float, bool]], positives: int) -> dict[str, float]:
    hits = sum(hit for _, hit in entries)
    return {"gts": positives, "n": len(entries), "tp": hits, "ap": _average_precision(entries, positives)}


def evaluate_vcoco_official(
    detections: Sequence[Mapping[str, Any]],
    images: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    actions: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Agent AP, and role AP in scenario 1 (a role without box has to be predicted empty) and 2 (anything goes).

    `detections`: entries of the official results list (`detection_of_pair`); `images` (id, width, height) name and
    order the evaluated images; `annotations` are COCO instances; `actions` the V-COCO file. Where the published code
    raises: an image without persons makes every detection in it a false positive, an action without detections has
    AP 0. An action without positives is not a number and counts 0 in the means. The means over roles are taken in
    single precision, as published."""
    persons_of = prepare_ground_truth(images, annotations, actions)
    detections_of: dict[int, list[Mapping[str, Any]]] = {image_id: [] for image_id in persons_of}
    for detection in detections:
        detections_of[detection["image_id"]].append(detection)

    agents = {a["action_name"]: _agent_ap(persons_of, detections_of, a["action_name"]) for a in actions}
    per_class: dict[str, Any] = {"agent": agents}
    metrics = {"AP_agent": mean(_number(row["ap"]) for row in agents.values())}
    for scenario in (1, 2):
        table = {
            role: _role_ap(persons_of, detections_of, action, role, scenario) for action, role in action_roles(actions)
        }
        per_class[f"role_{scenario}"] = table
        average = np.mean([np.float32(_number(row["ap"])) for row in table.values()], dtype=np.float32)
        point, count = np.float32(_number(table[POINT]["ap"])), np.float32(len(table))
        metrics[f"AP_role_{scenario}"] = float(average)
        metrics[f"AP_role_{scenario} without point"] = float((count * average - point) / (count - 1))
    return {"metrics": metrics, "per_class": per_class}


def _number(value: float) -> float:
    return 0.0 if math.isnan(value) else value
