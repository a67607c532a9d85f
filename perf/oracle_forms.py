"""Runs the loop formulations of `tests/oracle` on data in the evaluators' form; figures come back under the evaluators' names."""

from __future__ import annotations

from typing import Any

import numpy as np

from perf.synthetic import ACTIONS, SIZE, VcocoParts
from rlip_assets.evaluation.core.ground_truth import GroundTruth
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.predictions import ImagePredictions
from rlip_assets.evaluation.v_coco.actions import OFFICIAL_VERBS
from tests.oracle.hico_det import evaluate_hico
from tests.oracle.open_images import evaluate_oi_triplet
from tests.oracle.v_coco_official import detection_of_pair, evaluate_vcoco_official


def _predictions(images: list[ImagePredictions], person: int | None) -> list[dict[str, Any]]:
    """One dict an image; where `person` is given every subject is a person."""
    found = []
    for image in images:
        pairs = len(image.sub_labels)
        subjects = image.sub_labels if person is None else np.full(pairs, person)
        found.append(
            {
                "boxes": np.concatenate([image.sub_boxes, image.obj_boxes]),
                "labels": np.concatenate([subjects, image.obj_labels]),
                "sub_ids": np.arange(pairs),
                "obj_ids": np.arange(pairs, 2 * pairs),
                "verb_scores": image.scores,
            }
        )
    return found


def _truths(truth: GroundTruth) -> list[dict[str, Any]]:
    boxes, relations = truth.box_offsets, truth.relation_offsets
    return [
        {
            "boxes": truth.boxes[boxes[i] : boxes[i + 1]],
            "labels": truth.labels[boxes[i] : boxes[i + 1]],
            "hois": truth.relations[relations[i] : relations[i + 1]],
        }
        for i in range(len(truth))
    ]


def hico_det(truth: GroundTruth, vocabulary: Vocabulary, images: list[ImagePredictions]) -> dict[str, float]:
    """hico_det/rlipv2 with suppression."""
    counts = {
        (vocabulary.person, label, verb): 1 if i in set(vocabulary.rare) else 10
        for i, (verb, label) in enumerate(vocabulary.hois)
    }
    predictions = _predictions(images, vocabulary.person)
    found = evaluate_hico(predictions, _truths(truth), vocabulary.valid[:, :-1], counts, nms=True, compat=True)[
        "metrics"
    ]
    names = {"full": "mAP", "rare": "mAP rare", "non_rare": "mAP non-rare", "max_recall": "mean max recall"}
    return {ours: found[theirs] for ours, theirs in names.items()}


def open_images(truth: GroundTruth, vocabulary: Vocabulary, images: list[ImagePredictions]) -> dict[str, float]:
    """open_images/oi_triplet with suppression."""
    del vocabulary
    found = evaluate_oi_triplet(_predictions(images, None), _truths(truth), nms=True, compat=False)["metrics"]
    names = {
        "recall_50": "max recall@50 (RelD)",
        "wmap_rel": "wmAP@100 (RelD)",
        "wmap_phr": "wmAP@100 (PhrD)",
        "score_wtd": "score_wtd (wmAP)",
        "map_rel_50": "mAP@50 (RelD)",
        "map_phr_50": "mAP@50 (PhrD)",
    }
    return {ours: found[theirs] for ours, theirs in names.items()}


def vcoco_official(parts: VcocoParts, images: list[ImagePredictions]) -> dict[str, float]:
    """v_coco/official."""
    actions = [
        {
            "action_name": name,
            "role_name": ["agent", *roles],
            "ann_id": parts.agents.tolist(),
            "label": parts.does[action].tolist(),
            "role_object_id": [
                *parts.agents.tolist(),
                *parts.fillers[action, :, : len(roles)].T.reshape(-1).tolist(),
            ],
        }
        for action, (name, roles) in enumerate(zip(ACTIONS.names, ACTIONS.roles, strict=True))
    ]
    coco = parts.coco
    boxes = [
        {
            "id": int(coco.ids[i]),
            "image_id": int(coco.image[i]),
            "category_id": int(coco.category[i]),
            "bbox": coco.boxes[i].tolist(),
            "area": float(coco.area[i]),
        }
        for i in range(len(coco.ids))
    ]
    detections = [
        detection_of_pair(int(image.image_id), person, target, OFFICIAL_VERBS, scores.tolist(), actions)
        for image in images
        for person, target, scores in zip(
            image.sub_boxes.astype(np.float64), image.obj_boxes.astype(np.float64), image.scores, strict=True
        )
    ]
    sizes = [{"id": i, "width": int(SIZE[0]), "height": int(SIZE[1])} for i in range(parts.images)]
    found = evaluate_vcoco_official(detections, sizes, boxes, actions)["metrics"]
    return {
        "agent_ap": found["AP_agent"],
        "role_ap_s1_25": found["AP_role_1"],
        "role_ap_s1_24": found["AP_role_1 without point"],
        "role_ap_s2_25": found["AP_role_2"],
        "role_ap_s2_24": found["AP_role_2 without point"],
    }
