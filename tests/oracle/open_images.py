"""Open Images v6 scene graphs by two protocols: triplet classes (RLIPv2) and predicates (Ji Zhang, PySGG)."""

from collections.abc import Container, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from .hico_det import best_ground_truth, claim, gt_rows, gt_triplet
from .overlap import plain_iou, strict_iou, union_box
from .precision import ClassBook, all_point_ap, mean, recall_precision
from .ranking import Relation, by_score, pair_nms, phrase_nms, relation_of_cell, top_relations

SCORE_WEIGHTS = (0.2, 0.4, 0.4)  # recall at 50, relation AP, phrase AP


# ------------------------------------------------------------------------------------------- triplet classes (RLIPv2)


def _best_phrase(phrase: Relation, ground_truth: Mapping[str, Any]) -> int | None:
    """The ground truth of the same triplet whose union box overlaps most, by at least one half; of equals the first."""
    best, best_overlap = None, -1.0
    for index, row in enumerate(gt_rows(ground_truth)):
        if phrase.triplet != gt_triplet(ground_truth, row):
            continue
        boxes = ground_truth["boxes"]
        overlap = strict_iou(phrase.phrase_box, union_box(boxes[row[0]], boxes[row[1]]))
        if overlap >= 0.5 and overlap > best_overlap:
            best, best_overlap = index, float(overlap)
    return best


def _phrase_hits(
    grouped: Sequence[Relation], ground_truth: Mapping[str, Any], compat: bool, known: Container[Hashable]
) -> list[tuple[Relation, bool]]:
    """Phrases by score with their verdicts. The published code looks matches up in the order in which the suppression
    left the phrases (class by class), with positions counted after sorting: phrase j gets the match of another. A
    phrase of a class without ground truth (`known` lists the others) is passed over and claims nothing."""
    ranked = by_score(grouped)
    table = [_best_phrase(phrase, ground_truth) for phrase in (grouped if compat else ranked)]
    table = [best if phrase.triplet in known else None for best, phrase in zip(table, ranked, strict=True)]
    return list(zip(ranked, claim(table, ground_truth), strict=True))


def evaluate_oi_triplet(
    predictions: Sequence[Mapping[str, Any]],
    ground_truths: Sequence[Mapping[str, Any]],
    nms: bool,
    compat: bool,
    top_ks: Sequence[int] = (100, 50),
) -> dict[str, Any]:
    """Relation (RelD) and phrase (PhrD) detection at each K, and the weighted score where K = 50 and 100 are there.

    `compat` repeats three published behaviours: relations (not phrases) on images without ground-truth boxes vanish;
    phrases are credited with each other's matches (`_phrase_hits`); the micro recall of phrases is taken over the
    classes that have a prediction instead of over all ground truth.
    `per_class` has one table each under "rel@K" and "phr@K"."""
    metrics: dict[str, float] = {}
    tables: dict[str, Any] = {}
    for k in top_ks:
        relation_book, phrase_book = ClassBook(), ClassBook()
        for ground_truth in ground_truths:
            for row in gt_rows(ground_truth):
                relation_book.expect(gt_triplet(ground_truth, row))
                phrase_book.expect(gt_triplet(ground_truth, row))

        for prediction, ground_truth in zip(predictions, ground_truths, strict=True):
            relations = top_relations(prediction, None, k)
            if nms:
                relations = pair_nms(relations)
            phrases = phrase_nms(relations) if nms else relations

            if not (compat and len(ground_truth["boxes"]) == 0):
                ranked = by_score(relations)
                best = [best_ground_truth(relation, ground_truth, strict_iou) for relation in ranked]
                for relation, hit in zip(ranked, claim(best, ground_truth), strict=True):
                    relation_book.file(relation.triplet, relation.score, hit)
            for phrase, hit in _phrase_hits(phrases, ground_truth, compat, phrase_book.positives):
                phrase_book.file(phrase.triplet, phrase.score, hit)

        for name, book in (("RelD", relation_book), ("PhrD", phrase_book)):
            table = book.per_class()
            rows = list(table.values())
            total = sum(row["gts"] for row in rows)
            reachable = sum(row["gts"] for row in rows if row["n"] > 0) if compat and name == "PhrD" else total
            metrics[f"mAP@{k} ({name})"] = mean(row["ap"] for row in rows)
            metrics[f"wmAP@{k} ({name})"] = _ratio(sum(row["ap"] * row["gts"] for row in rows), total)
            metrics[f"mean max recall@{k} ({name})"] = mean(row["recall"] for row in rows)
            metrics[f"max recall@{k} ({name})"] = _ratio(sum(row["tp"] for row in rows), reachable)
            tables[f"{name[:3].lower()}@{k}"] = table

    if {50, 100} <= set(top_ks):
        for kind in ("mAP", "wmAP"):
            parts = (metrics["max recall@50 (RelD)"], metrics[f"{kind}@100 (RelD)"], metrics[f"{kind}@100 (PhrD)"])
            metrics[f"score_wtd ({kind})"] = _weighted(parts)
    return {"metrics": metrics, "per_class": tables}


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")


def _weighted(parts: Sequence[float]) -> float:
    return sum(weight * part for weight, part in zip(SCORE_WEIGHTS, parts, strict=True))


# ------------------------------------------------------------------------------ predicates (Ji Zhang 2019, PySGG)


def _predicate_candidates(prediction: Mapping[str, Any]) -> list[Relation]:
    """At most two predicates a pair, the best 100 of the image, scores of 1e-5 or less dropped."""
    candidates = []
    for query, scores in enumerate(prediction["verb_scores"]):
        best_two = sorted(range(len(scores)), key=lambda verb: -float(scores[verb]))[:2]
        for verb in best_two:
            candidates.append(relation_of_cell(prediction, query, verb, float(scores[verb])))
    return [relation for relation in by_score(candidates)[:100] if relation.score > 1e-5]


def _overlaps(relation: Relation, ground_truth: Mapping[str, Any], row: tuple[int, int, int]) -> tuple[float, float]:
    """(smaller overlap of subject and object, overlap of the union boxes) with a ground-truth row. An overlap that is
    not a number (boxes turned inside out) makes the smaller one not a number too, and then nothing matches."""
    subject, object_ = ground_truth["boxes"][row[0]], ground_truth["boxes"][row[1]]
    pair = np.minimum(plain_iou(relation.sub_box, subject), plain_iou(relation.obj_box, object_))
    return float(pair), float(plain_iou(relation.phrase_box, union_box(subject, object_)))


def evaluate_oi_predicate(
    predictions: Sequence[Mapping[str, Any]], ground_truths: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """AP a predicate (subject and object labels have to agree), weighted by the predicate's share of the ground truth.

    Recall: a ground truth counts as found once any of the first K relations of its image has its triplet and overlaps
    both boxes by at least one half; R@K over all ground truth of the set; mR@K the mean, over the predicates with
    ground truth, of the share found. AP: a prediction means the ground truth of its triplet with the largest overlap
    (pair: the smaller of both; phrase: union boxes); it is right when that overlap is *more* than one half and nobody
    with a better score in the whole set has claimed that ground truth. AP is the area under the envelope. The
    unweighted means run over all predicates, those without ground truth counting 0."""
    predicates = max((prediction["verb_scores"].shape[1] for prediction in predictions), default=0)
    ranked = [_predicate_candidates(prediction) for prediction in predictions]
    gts = [0] * predicates
    per_image_recall: dict[int, list[float]] = {50: [], 100: []}
    found = {50: [0] * predicates, 100: [0] * predicates}
    for relations, ground_truth in zip(ranked, ground_truths, strict=True):
        rows = gt_rows(ground_truth)
        for _, _, verb in rows:
            gts[verb] += 1
        for k in found:
            matched = 0
            for row in rows:
                if any(
                    relation.triplet == gt_triplet(ground_truth, row)
                    and _overlaps(relation, ground_truth, row)[0] >= 0.5
                    for relation in relations[:k]
                ):
                    found[k][row[2]] += 1
                    matched += 1
            per_image_recall[k].append(matched / len(rows) if rows else 0.0)

    per_class: dict[int, dict[str, float]] = {}
    for verb in range(predicates):
        row_of_class: dict[str, float] = {"gts": gts[verb], "n": 0}
        for kind, part in (("rel", 0), ("phr", 1)):
            entries = _predicate_verdicts(ranked, ground_truths, verb, part)
            row_of_class["n"] = len(entries)
            row_of_class[f"tp_{kind}"] = sum(hit for _, hit in entries)
            row_of_class[f"ap_{kind}"] = all_point_ap(recall_precision(entries, gts[verb]))
        row_of_class["recall@50"] = _ratio(found[50][verb], gts[verb])
        per_class[verb] = row_of_class

    total = sum(gts)
    metrics = {f"R@{k}": _ratio(sum(found[k]), total) for k in found}
    for k in found:
        metrics[f"R@{k} (per image)"] = mean(per_image_recall[k])
        metrics[f"mR@{k}"] = mean(found[k][verb] / gts[verb] for verb in range(predicates) if gts[verb])
    for kind in ("rel", "phr"):
        metrics[f"mAP_{kind}"] = mean(row[f"ap_{kind}"] for row in per_class.values())
        metrics[f"wmAP_{kind}"] = _ratio(sum(row[f"ap_{kind}"] * row["gts"] for row in per_class.values()), total)
    metrics["score_wtd (mAP)"] = _weighted((metrics["R@50"], metrics["mAP_rel"], metrics["mAP_phr"]))
    metrics["score_wtd"] = _weighted((metrics["R@50"], metrics["wmAP_rel"], metrics["wmAP_phr"]))
    return {"metrics": metrics, "per_class": per_class}


def _predicate_verdicts(
    ranked: Sequence[Sequence[Relation]], ground_truths: Sequence[Mapping[str, Any]], verb: int, part: int
) -> list[tuple[float, bool]]:
    """(score, right) of every relation of one predicate over the whole set, best first. `part` 0 pairs, 1 phrases."""
    detections = [
        (image, relation) for image, relations in enumerate(ranked) for relation in relations if relation.verb == verb
    ]
    detections.sort(key=lambda detection: -detection[1].score)
    claimed: set[tuple[int, int]] = set()
    verdicts = []
    for image, relation in detections:
        ground_truth = ground_truths[image]
        best, best_overlap = None, 0.5
        for index, row in enumerate(gt_rows(ground_truth)):
            if relation.triplet == gt_triplet(ground_truth, row):
                overlap = _overlaps(relation, ground_truth, row)[part]
                if overlap > best_overlap:
                    best, best_overlap = index, overlap
        hit = best is not None and (image, best) not in claimed
        if best is not None:
            claimed.add((image, best))
        verdicts.append((relation.score, hit))
    return verdicts
