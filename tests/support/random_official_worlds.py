"""Small random cases of the official V-COCO evaluation, in our form and in the oracle's.

Labelled and unlabelled persons, boxes that the cleaning drops, roles with, without and with lost boxes, predictions that leave a
role empty in both ways (label "no object", all-zero box).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.predictions import ImagePredictions
from rlip_assets.evaluation.v_coco.actions import OFFICIAL_VERBS, actions_of_names
from rlip_assets.evaluation.v_coco.ground_truth import CocoBoxes, OfficialTruth, official_truth_of_coco
from tests.oracle.v_coco_official import detection_of_pair
from tests.support.random_worlds import Knobs

ACTIONS = actions_of_names(OFFICIAL_VERBS)
NO_OBJECT_LABEL = 2


@dataclass(frozen=True)
class OfficialWorld:
    """For the evaluator `truth`, `vocabulary`, `images`; for the oracle the other four."""

    truth: OfficialTruth
    vocabulary: Vocabulary
    images: list[ImagePredictions]
    detections: list[dict[str, Any]]
    coco_images: list[dict[str, Any]]
    coco_boxes: list[dict[str, Any]]
    actions: list[dict[str, Any]]


def make_official_world(chosen: Knobs) -> OfficialWorld:
    """A random case."""
    rng = np.random.default_rng(chosen.seed)
    sizes = np.full((chosen.images, 2), chosen.grid + 4, np.int64)
    coco = _random_boxes(rng, chosen)
    agents = coco.ids[(coco.category == 1) & (rng.random(len(coco.ids)) < 0.7)]
    does = (rng.random((len(ACTIONS.names), len(agents))) < 0.4).astype(np.int64)
    fillers = rng.choice(np.append(coco.ids, 0), (*does.shape, 2))
    fillers[rng.random(fillers.shape) < 0.4] = 0
    fillers[does == 0] = 0
    for action, roles in enumerate(ACTIONS.roles):
        fillers[action, :, len(roles) :] = 0
    ids = tuple(str(i) for i in range(chosen.images))
    actions = [
        {
            "action_name": name,
            "role_name": ["agent", *roles],
            "ann_id": agents.tolist(),
            "label": does[action].tolist(),
            "role_object_id": [*agents.tolist(), *fillers[action, :, : len(roles)].T.reshape(-1).tolist()],
        }
        for action, (name, roles) in enumerate(zip(ACTIONS.names, ACTIONS.roles, strict=True))
    ]
    cleaned, _ = coco.cleaned(sizes)
    images, detections = [], []
    for image in range(chosen.images):
        found = _random_predictions(rng, chosen, str(image), cleaned[coco.image == image])
        images.append(found)
        for q, scores in enumerate(found.scores):
            target = np.full(4, np.nan) if found.obj_labels[q] == NO_OBJECT_LABEL else found.obj_boxes[q]
            person = found.sub_boxes[q]
            detections.append(detection_of_pair(image, person, target, OFFICIAL_VERBS, scores.tolist(), actions))
    return OfficialWorld(
        truth=official_truth_of_coco(ids, sizes, ACTIONS, coco, agents, does, fillers),
        vocabulary=Vocabulary("v_coco", ("person", "thing"), tuple(OFFICIAL_VERBS)),
        images=images,
        detections=detections,
        coco_images=[{"id": i, "width": int(w), "height": int(h)} for i, (w, h) in enumerate(sizes)],
        coco_boxes=[
            {
                "id": int(coco.ids[i]),
                "image_id": int(coco.image[i]),
                "category_id": int(coco.category[i]),
                "bbox": coco.boxes[i].tolist(),
                "area": float(coco.area[i]),
                "ignore": int(coco.ignored[i]),
            }
            for i in range(len(coco.ids))
        ],
        actions=actions,
    )


def _random_boxes(rng: np.random.Generator, chosen: Knobs) -> CocoBoxes:
    count = 4 * chosen.images
    return CocoBoxes(
        ids=rng.permutation(count) + 1,
        image=rng.integers(0, max(1, chosen.images), count),
        category=rng.choice([1, 1, 7], count),
        boxes=rng.integers(-2, chosen.grid + 4, (count, 4)).astype(np.float64),
        area=rng.choice([0.0, 1.0, 1.0, 1.0], count),
        ignored=rng.random(count) < 0.1,
    )


def _random_predictions(rng: np.random.Generator, chosen: Knobs, image_id: str, near: np.ndarray) -> ImagePredictions:
    """Pairs near the boxes `near`, moved by a step."""
    pairs = int(rng.integers(0, chosen.pairs + 1))
    sides = []
    for _ in range(2):
        own = near[rng.integers(0, len(near), pairs)] if len(near) else np.zeros((pairs, 4))
        sides.append(own + rng.integers(-1, 2, (pairs, 4)) * (rng.random((pairs, 1)) < 0.4))
    sides[1][rng.random(pairs) < 0.15] = 0
    scores = rng.integers(0, chosen.levels + 1, (pairs, len(OFFICIAL_VERBS))) / chosen.levels + chosen.offset
    labels = rng.integers(0, NO_OBJECT_LABEL + 1, pairs)
    return ImagePredictions(image_id, sides[0], sides[1], np.zeros(pairs, np.int32), labels, scores.astype(np.float32))
