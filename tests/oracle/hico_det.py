"""HICO-DET: mean AP over (subject, object, verb) classes, as published (`rlipv2`) and as in the Matlab code."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from .overlap import Box, plain_iou, strict_iou
from .precision import MATLAB_RECALLS, PUBLISHED_RECALLS, ClassBook, mean
from .ranking import Relation, by_score, pair_nms, top_relations

Triplet = tuple[int, int, int]  # (subject label, object label, verb)
RARE_BELOW = 10


def gt_rows(ground_truth: Mapping[str, Any]) -> list[tuple[int, int, int]]:
    """The (subject box, object box, verb) rows of an image, from `hois` or `rels`."""
    rows = ground_truth["hois"] if "hois" in ground_truth else ground_truth["rels"]
    return [(int(subject), int(object_), int(verb)) for subject, object_, verb in rows]


def gt_triplet(ground_truth: Mapping[str, Any], row: tuple[int, int, int]) -> Triplet:
    subject, object_, verb = row
    return int(ground_truth["labels"][subject]), int(ground_truth["labels"][object_]), verb


def best_ground_truth(
    relation: Relation, ground_truth: Mapping[str, Any], iou: Callable[[Box, Box], np.floating]
) -> int | None:
    """The ground-truth relation that the prediction means: same verb, equal labels, both boxes overlapping by at least
    one half; the largest smaller overlap, of equals the first listed."""
    best, best_overlap = None, -1.0
    for index, row in enumerate(gt_rows(ground_truth)):
        if relation.triplet != gt_triplet(ground_truth, row):
            continue
        sub_overlap = iou(relation.sub_box, ground_truth["boxes"][row[0]])
        obj_overlap = iou(relation.obj_box, ground_truth["boxes"][row[1]])
        if sub_overlap >= 0.5 and obj_overlap >= 0.5 and min(sub_overlap, obj_overlap) > best_overlap:
            best, best_overlap = index, float(min(sub_overlap, obj_overlap))
    return best


def claim(best: Sequence[int | None], ground_truth: Mapping[str, Any]) -> list[bool]:
    """True for each prediction, best scored first, whose ground truth nobody before it has claimed. There is no
    fallback to a second-best ground truth, and equal ground-truth rows share one claim."""
    rows = gt_rows(ground_truth)
    claimed: set[tuple[int, int, int]] = set()
    hits = []
    for index in best:
        row = None if index is None else rows[index]
        hits.append(row is not None and row not in claimed)
        if row is not None:
            claimed.add(row)
    return hits


def drop_non_person_queries(prediction: Mapping[str, Any], person: int = 0) -> dict[str, Any]:
    """Zero-shot evaluation without fine-tuning: queries whose subject is not a person are dropped first."""
    kept = [q for q, subject in enumerate(prediction["sub_ids"]) if int(prediction["labels"][subject]) == person]
    return {
        **prediction,
        "sub_ids": np.asarray(prediction["sub_ids"])[kept],
        "obj_ids": np.asarray(prediction["obj_ids"])[kept],
        "verb_scores": prediction["verb_scores"][kept],
    }


def evaluate_hico(
    predictions: Sequence[Mapping[str, Any]],
    ground_truths: Sequence[Mapping[str, Any]],
    validity: np.ndarray,
    train_counts: Mapping[Triplet, int],
    nms: bool,
    compat: bool,
    top_k: int | None = 100,
    protocol: str = "rlipv2",
    class_list: Collection[Triplet] | None = None,
    known_object_images: Mapping[int, Collection[Any]] | None = None,
    one_based_ground_truth: bool = False,
) -> dict[str, Any]:
    """Full, rare and non-rare mean AP.

    `train_counts` splits the classes: below 10 training relations rare, 10 or more non-rare, none in neither (zero-shot
    splits reuse it: 1 for unseen, 10 for seen classes).
    `compat` repeats the published quirk that predictions on images without ground-truth boxes vanish.
    `protocol="matlab"` averages over `class_list` (default: every valid verb-object pair with subject 0), whether or
    not the class occurs, counts boxes without area, never ignores an image, and moves detections by one pixel when the
    ground truth counts pixels from 1. Its detections are unlimited in number: pass `top_k=None` to follow it in this.
    `known_object_images`, object label -> ids of images with a positive image label for that object, asks for the
    Known-Object setting: other images' detections of that object are not filed.
    """
    if protocol not in ("rlipv2", "matlab"):
        raise ValueError(f"protocol is {protocol!r}; choose 'rlipv2' or 'matlab'")
    matlab = protocol == "matlab"
    iou, recalls = (plain_iou, MATLAB_RECALLS) if matlab else (strict_iou, PUBLISHED_RECALLS)
    shift = np.float32(1 if matlab and one_based_ground_truth else 0)

    book = ClassBook()
    if matlab:
        if class_list is None:
            class_list = [(0, int(obj), int(verb)) for verb, obj in np.argwhere(validity)]
        for triplet in class_list:
            book.expect(triplet, 0)
    for ground_truth in ground_truths:
        for row in gt_rows(ground_truth):
            triplet = gt_triplet(ground_truth, row)
            if not matlab or triplet in book.positives:
                book.expect(triplet)

    for prediction, ground_truth in zip(predictions, ground_truths, strict=True):
        if compat and not matlab and len(ground_truth["boxes"]) == 0:
            continue
        prediction = {**prediction, "boxes": prediction["boxes"] + shift}
        relations = top_relations(prediction, validity, top_k)
        if nms:
            relations = by_score(pair_nms(relations))
        hits = claim([best_ground_truth(relation, ground_truth, iou) for relation in relations], ground_truth)
        for relation, hit in zip(relations, hits, strict=True):
            known = known_object_images is None or ground_truth["id"] in known_object_images[relation.obj_label]
            if known:
                book.file(relation.triplet, relation.score, hit)

    per_class = book.per_class(recalls)
    rare = [row for key, row in per_class.items() if 0 < train_counts.get(key, 0) < RARE_BELOW]
    non_rare = [row for key, row in per_class.items() if train_counts.get(key, 0) >= RARE_BELOW]
    metrics = {
        "mAP": mean(row["ap"] for row in per_class.values()),
        "mAP rare": mean(row["ap"] for row in rare),
        "mAP non-rare": mean(row["ap"] for row in non_rare),
        "mean max recall": mean(row["recall"] for row in per_class.values()),
    }
    return {"metrics": metrics, "per_class": per_class}
