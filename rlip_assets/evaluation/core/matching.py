"""Matching of detections to annotated relations, for all images at once.

The rule of the published evaluators (HICO-DET, V-COCO in training, Open Images): a detection's best relation is the
one of its class with both overlaps at or above the threshold that maximises the smaller overlap, the first listed on
ties. It is right if no better-scored detection of the image has the same best relation; there is no fallback to the
second best. So the outcome does not depend on the order of work, and a join with two sorts replaces the loop.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core.ground_truth import GroundTruth
from rlip_assets.evaluation.core.overlaps import Columns, union_boxes
from rlip_assets.evaluation.core.ragged import argsort_stable, first_of_runs, ranges
from rlip_assets.evaluation.core.state import FlatCells

THRESHOLD = 0.5

Rows = npt.NDArray[np.int64]
Boxes = tuple[Columns, Columns]
NO_MATCH = -1


def join(keys: Rows, reference: Rows) -> tuple[Rows, Rows]:
    """All pairs (i, j) with `keys[i] == reference[j]`, ordered by i and, for one i, by j. Keys below 0 join nothing."""
    order = argsort_stable(reference)
    ordered = reference[order]
    unique_at = np.flatnonzero(first_of_runs(ordered))
    unique = ordered[unique_at]
    counts = np.diff(np.append(unique_at, len(ordered)))
    left = np.flatnonzero(_contained(keys, unique))
    run = np.searchsorted(unique, keys[left])
    return np.repeat(left, counts[run]), order[ranges(unique_at[run], counts[run])]


def _contained(keys: Rows, unique: Rows) -> npt.NDArray[np.bool_]:
    """Return whether each key is one of the sorted, distinct `unique`; a bitmap where the keys are small, for speed."""
    size = int(unique[-1]) + 1 if len(unique) else 0
    if size > 1 << 27:
        position = np.minimum(np.searchsorted(unique, keys), len(unique) - 1)
        found: npt.NDArray[np.bool_] = unique[position] == keys
        return found
    present = np.zeros(size + 1, bool)
    present[unique] = True
    return present[np.where((keys < 0) | (keys > size), size, keys)]


Overlap = Callable[[Columns, Columns], npt.NDArray[np.floating]]


def near_pairs(
    cells: FlatCells, keys: Rows, truth: GroundTruth, truth_keys: Rows, boxes: Boxes, annotated: Columns, iou: Overlap
) -> tuple[Rows, Rows, npt.NDArray[np.floating]]:
    """All (cell, relation) of equal image and key whose subject and object boxes overlap by half or more.

    Args:
        keys: (n,) class of each cell; below 0 for cells that take no part.
        truth_keys: (R,) class of each annotated relation, likewise.
        boxes: subject and object boxes of the query pairs.
        annotated: the annotated boxes.

    Returns:
        cell, relation, smaller overlap: ordered by cell, then by relation. Relations without an object need the subject only.
    """
    cell, relation = same_class_pairs(cells, keys, truth, truth_keys)
    overlap = iou(boxes[0].take(cells.row[cell]), annotated.take(truth.subject[relation]))
    near = np.flatnonzero(overlap >= THRESHOLD)
    cell, relation, overlap = cell[near], relation[near], overlap[near]
    others = iou(boxes[1].take(cells.row[cell]), annotated.take(truth.object[relation]))
    others = np.where(truth.has_object[relation], others, overlap)
    near = np.flatnonzero(others >= THRESHOLD)
    return cell[near], relation[near], np.minimum(overlap, others)[near]


def near_phrases(
    cells: FlatCells, keys: Rows, truth: GroundTruth, truth_keys: Rows, boxes: Boxes, annotated: Columns, iou: Overlap
) -> tuple[Rows, Rows, npt.NDArray[np.floating]]:
    """As `near_pairs`, for phrases: the one box around subject and object must overlap by half or more."""
    cell, relation = same_class_pairs(cells, keys, truth, truth_keys)
    row = cells.row[cell]
    phrase = union_boxes(boxes[0].take(row), boxes[1].take(row))
    wanted = union_boxes(annotated.take(truth.subject[relation]), annotated.take(truth.object[relation]))
    overlap = iou(phrase, wanted)
    near = np.flatnonzero(overlap >= THRESHOLD)
    return cell[near], relation[near], overlap[near]


def same_class_pairs(cells: FlatCells, keys: Rows, truth: GroundTruth, truth_keys: Rows) -> tuple[Rows, Rows]:
    """All (cell, relation) of equal image and key, ordered by cell, then by relation."""
    classes = np.int64(max(keys.max(initial=-1), truth_keys.max(initial=-1)) + 1)
    countable = np.flatnonzero(truth_keys >= 0)
    image_keys = np.where(keys >= 0, cells.image * classes + keys, -1)
    cell, relation = join(image_keys, truth.image[countable] * classes + truth_keys[countable])
    return cell, countable[relation]


def best_relations(count: int, detection: Rows, relation: Rows, overlap: npt.NDArray[np.floating]) -> Rows:
    """Return the best relation of each of `count` detections among candidates ordered by detection, then by relation; -1 for none."""
    best = np.full(count, NO_MATCH, np.int64)
    if len(detection):
        start = np.flatnonzero(first_of_runs(detection))
        highest = np.repeat(np.maximum.reduceat(overlap, start), np.diff(np.append(start, len(detection))))
        top = np.flatnonzero(overlap == highest)[::-1]
        best[detection[top]] = relation[top]  # reversed, so that the first listed is written last
    return best


def credit(best: Rows, score: npt.NDArray[np.floating], order: Rows) -> npt.NDArray[np.bool_]:
    """Credit each relation to its best-scored detection, on equal scores to the one that comes first in `order`."""
    right = np.zeros(len(best), bool)
    candidates = np.flatnonzero(best != NO_MATCH)
    ranked = candidates[np.lexsort((order[candidates], -score[candidates], best[candidates]))]
    right[ranked[first_of_runs(best[ranked])]] = True
    return right
