"""V-COCO during training: mean AP over verb roles, object labels counting only through the overlap."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .hico_det import claim, gt_rows
from .overlap import strict_iou
from .precision import ClassBook, mean
from .ranking import Relation, top_relations

# fmt: off
VERB_ROLES = (
    "hold_obj", "stand", "sit_instr", "ride_instr", "walk", "look_obj", "hit_instr", "hit_obj", "eat_obj",
    "eat_instr", "jump_instr", "lay_instr", "talk_on_phone_instr", "carry_obj", "throw_obj", "catch_obj", "cut_instr",
    "cut_obj", "run", "work_on_computer_instr", "ski_instr", "surf_instr", "skateboard_instr", "smile", "drink_instr",
    "kick_obj", "point_instr", "read_obj", "snowboard_instr",
)
# fmt: on
OUTSIDE_THESIS = ("stand", "walk", "run", "smile", "point_instr")
NO_OBJECT = -1


def _best_ground_truth(relation: Relation, ground_truth: Mapping[str, Any]) -> int | None:
    """As in HICO-DET, but a ground truth without object is met by the subject box alone, whatever the predicted
    object."""
    best, best_overlap = None, -1.0
    for index, (subject, object_, verb) in enumerate(gt_rows(ground_truth)):
        if verb != relation.verb or ground_truth["labels"][subject] != relation.sub_label:
            continue
        overlap = strict_iou(relation.sub_box, ground_truth["boxes"][subject])
        if object_ != NO_OBJECT:
            if ground_truth["labels"][object_] != relation.obj_label:
                continue
            overlap = min(overlap, strict_iou(relation.obj_box, ground_truth["boxes"][object_]))
        if overlap >= 0.5 and overlap > best_overlap:
            best, best_overlap = index, float(overlap)
    return best


def evaluate_vcoco(
    predictions: Sequence[Mapping[str, Any]],
    ground_truths: Sequence[Mapping[str, Any]],
    validity: np.ndarray,
    top_k: int | None = 100,
    verb_names: Sequence[str] = VERB_ROLES,
) -> dict[str, Any]:
    """Mean AP over all verb roles with ground truth, and over the 24 of the thesis (an absent one counts 0).

    `validity` (verbs, objects); the label after the last object, "missing object", is valid with every verb. The
    published evaluator has no quirk to repeat here (it does count predictions on images without boxes); where it raises
    (boxes, but no prediction) the ground truth counts and nothing is filed."""
    validity = np.hstack([validity, np.ones((len(validity), 1))])
    book = ClassBook()
    for ground_truth in ground_truths:
        for _, _, verb in gt_rows(ground_truth):
            book.expect(verb)
    for prediction, ground_truth in zip(predictions, ground_truths, strict=True):
        relations = top_relations(prediction, validity, top_k)
        hits = claim([_best_ground_truth(relation, ground_truth) for relation in relations], ground_truth)
        for relation, hit in zip(relations, hits, strict=True):
            book.file(relation.verb, relation.score, hit)

    per_class = book.per_class()
    metrics = {f"AP_{verb_names[verb]}": per_class[verb]["ap"] for verb in sorted(per_class)}
    metrics["mAP_all"] = mean(row["ap"] for row in per_class.values())
    thesis = [verb for verb, name in enumerate(verb_names) if name not in OUTSIDE_THESIS]
    metrics["mAP_thesis"] = mean(per_class[verb]["ap"] if verb in per_class else 0.0 for verb in thesis)
    return {"metrics": metrics, "per_class": per_class}
