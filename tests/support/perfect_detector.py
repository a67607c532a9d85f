"""A detector that says what the annotations say, and why even it misses some relations."""

from __future__ import annotations

import numpy as np

from rlip_assets.evaluation.core.ground_truth import GroundTruth
from rlip_assets.evaluation.formats.predictions import PredictionBatch

TOP = 100
SUPPRESSION = 0.7


def perfect_predictions(truth: GroundTruth, num_verbs: int, shift: float = 0.0) -> PredictionBatch:
    """One pair for every annotated pair of boxes, score 1 for its verbs; boxes moved by `shift` pixels."""
    keys = np.stack([truth.image, truth.subject, truth.object], axis=1)
    pairs, pair = np.unique(keys, axis=0, return_inverse=True)
    scores = np.zeros((len(pairs), num_verbs), np.float32)
    scores[pair.reshape(-1), truth.relations[:, 2]] = 1
    image, subject, target = pairs.T
    return PredictionBatch(
        truth.image_ids,
        np.concatenate([[0], np.cumsum(np.bincount(image, minlength=len(truth)))]),
        truth.boxes[subject] + np.float32(shift),
        truth.boxes[target] + np.float32(shift),
        truth.labels[subject].astype(np.int32),
        truth.labels[target].astype(np.int32),
        scores,
    )


def annotated_twice(truth: GroundTruth) -> np.ndarray:
    """(R,) relations that repeat an earlier one of their image: same boxes, same verb. Only one of them can be found."""
    keys = np.stack([truth.image, truth.subject, truth.object, truth.relations[:, 2]], axis=1)
    _, first = np.unique(keys, axis=0, return_index=True)
    again = np.ones(len(keys), bool)
    again[first] = False
    return again


def without_area(truth: GroundTruth) -> np.ndarray:
    """(R,) relations with a box of no width or height, which overlaps nothing where contact is tested without the +1."""
    left, top, right, bottom = truth.boxes.T
    flat = (right <= left) | (bottom <= top)
    return flat[truth.subject] | flat[truth.object]


def past_the_top(truth: GroundTruth) -> np.ndarray:
    """(R,) relations in images that have more different ones than the best 100 hold."""
    counts = np.bincount(truth.image[~annotated_twice(truth)], minlength=len(truth))
    return (counts > TOP)[truth.image]


def crowded(truth: GroundTruth) -> np.ndarray:
    """(R,) relations that have a neighbour of their class so close that pair suppression keeps one of the two."""
    found = np.zeros(len(truth.relations), bool)
    labels, verbs = truth.labels[truth.object], truth.relations[:, 2]
    order = np.lexsort((verbs, labels, truth.image))
    keys = np.stack([truth.image, labels, verbs], axis=1)[order]
    starts = np.flatnonzero(np.append(True, (keys[1:] != keys[:-1]).any(axis=1)))
    for rows in np.split(order, starts[1:]):
        if len(rows) > 1:
            subjects, objects = (truth.boxes[own[rows]].astype(np.float64) for own in (truth.subject, truth.object))
            near = _overlaps(subjects) * np.sqrt(_overlaps(objects)) > SUPPRESSION - 1e-4
            found[rows] = near.sum(axis=1) > 1
    return found


def _overlaps(boxes: np.ndarray) -> np.ndarray:
    """(n, n) overlap of every two boxes, counted in pixels."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    inter = np.clip(high - low + 1, 0, None).prod(axis=2)
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1)
    return inter / (areas[:, None] + areas[None, :] - inter)
