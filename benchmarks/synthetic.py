"""Synthetic predictions at full scale: pairs of a detector that is good, but repeats itself, slips and imagines things.

Every image gets Q pairs. Most lie around an annotated pair, jittered, several around each; the others are boxes anywhere.
Scores are low noise with the annotated verbs raised on the pairs that lie well, so that ranks, duplicates and mistakes occur in
numbers like those of trained models.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rlip_assets.benchmarks.ground_truth import GroundTruth
from rlip_assets.benchmarks.predictions import ImagePredictions, PredictionWriter
from rlip_assets.benchmarks.vocabulary import Vocabulary

BOX = tuple[float, float, float, float]


def predictions_for(
    truth: GroundTruth, vocabulary: Vocabulary, pairs: int, seed: int, any_subject: bool = False
) -> Iterator[ImagePredictions]:
    """Predictions for every image, one at a time.

    Args:
        pairs: Q, pairs an image.
        any_subject: subjects may be of any class (Open Images); otherwise they are persons.
    """
    rng = np.random.default_rng(seed)
    num_objects, num_verbs = len(vocabulary.objects), len(vocabulary.verbs)
    person = None if any_subject else vocabulary.person
    for image in range(len(truth)):
        relations = np.arange(truth.relation_offsets[image], truth.relation_offsets[image + 1])
        width, height = np.where(truth.sizes[image] > 0, truth.sizes[image], (640, 480))
        scale = np.array([width, height, width, height], np.float64)
        corners = rng.random((2, pairs, 2, 2))
        free = np.sort(corners, axis=2).reshape(2, pairs, 4) * scale
        sub_boxes, obj_boxes = free
        sub_labels = rng.integers(0, num_objects, pairs) if person is None else np.full(pairs, person)
        obj_labels = rng.integers(0, num_objects, pairs)
        scores = rng.beta(0.6, 18, (pairs, num_verbs))
        if len(relations):
            chosen = rng.choice(relations, pairs)
            near = rng.random(pairs) < 0.7
            spread = rng.choice([0.02, 0.08, 0.3], (pairs, 1), p=[0.5, 0.3, 0.2])
            for boxes, rows in ((sub_boxes, truth.subject[chosen]), (obj_boxes, truth.object[chosen])):
                own = truth.boxes[rows].astype(np.float64)
                sides = np.tile(own[:, 2:] - own[:, :2], 2)
                boxes[near] = (own + rng.normal(0, 1, own.shape) * spread * sides)[near]
            known = near & (rng.random(pairs) < 0.9)
            obj_labels[known] = truth.labels[truth.object[chosen]][known]
            if person is None:
                sub_labels[known] = truth.labels[truth.subject[chosen]][known]
            raised = rng.beta(3, 2, pairs) * (spread[:, 0] < 0.2)
            rows = np.flatnonzero(near)
            scores[rows, truth.relations[chosen[rows], 2]] = np.maximum(
                scores[rows, truth.relations[chosen[rows], 2]], raised[rows]
            )
            scores *= np.where(near, rng.uniform(0.5, 1, pairs), rng.beta(1, 4, pairs))[:, None]
        yield ImagePredictions(
            truth.image_ids[image],
            sub_boxes.astype(np.float32),
            obj_boxes.astype(np.float32),
            sub_labels.astype(np.int32),
            obj_labels.astype(np.int32),
            scores.astype(np.float32),
        )


def write_predictions(
    path: Path, truth: GroundTruth, vocabulary: Vocabulary, pairs: int, seed: int, any_subject: bool = False
) -> None:
    """Write `predictions_for` as a predictions file."""
    with PredictionWriter(path, vocabulary.dataset, vocabulary.objects, vocabulary.verbs, {"seed": seed}) as writer:
        for image in predictions_for(truth, vocabulary, pairs, seed, any_subject):
            writer.write(image)
