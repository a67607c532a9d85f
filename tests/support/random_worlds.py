"""Small random benchmarks in the evaluators' form and in the oracle's, full of the cases on which formulations part ways.

Coordinates lie on a coarse grid (zero-area boxes, shared edges, overlaps of exactly one half), scores take few values (ties),
predicted boxes are mostly annotated ones moved by a step, annotated relations repeat, images are empty in every way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import numpy as np

from rlip_assets.evaluation.core.ground_truth import AnnotatedImage, GroundTruth, ground_truth_of
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.predictions import ImagePredictions, PredictionBatch


@dataclass(frozen=True)
class World:
    """A benchmark: for the evaluators `truth`, `vocabulary`, `images`; for the oracle `predictions`, `truths`, `validity`."""

    truth: GroundTruth
    vocabulary: Vocabulary
    images: tuple[ImagePredictions, ...]
    predictions: list[dict[str, Any]]
    truths: list[dict[str, Any]]
    validity: np.ndarray
    rng: np.random.Generator

    @property
    def batch(self) -> PredictionBatch:
        return PredictionBatch.of(self.images, len(self.vocabulary.verbs))


@dataclass(frozen=True)
class Knobs:
    """Choices of hypothesis."""

    seed: int
    images: int
    objects: int
    verbs: int
    pairs: int
    grid: int
    levels: int
    offset: float
    density: float


knobs = st.builds(
    Knobs,
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(0, 5),
    objects=st.integers(1, 4),
    verbs=st.integers(1, 4),
    pairs=st.sampled_from([0, 1, 3, 6, 12, 40]),
    grid=st.sampled_from([2, 4, 9, 40]),
    levels=st.sampled_from([1, 2, 5, 1000]),
    offset=st.sampled_from([0.0, 0.0, 0.0, -0.5]),
    density=st.sampled_from([0.3, 0.7, 1.0]),
)


def make_world(kind: str, k: Knobs) -> World:
    """A random benchmark of `kind` "hico_det", "v_coco" (relations without object) or "open_images" (any subject)."""
    rng = np.random.default_rng(k.seed)
    any_subject = kind == "open_images"
    valid = rng.random((k.verbs, k.objects)) < k.density if not any_subject else np.ones((k.verbs, k.objects), bool)
    valid[0, 0] = True
    hois = () if any_subject else tuple((int(v), int(o)) for v, o in np.argwhere(valid))
    vocabulary = Vocabulary(
        kind, ("person", *(f"thing {i}" for i in range(1, k.objects))), tuple(f"verb {i}" for i in range(k.verbs)), hois
    )

    def boxes(count: int) -> np.ndarray:
        corners = np.sort(rng.integers(0, k.grid, (count, 2, 2)), axis=1)
        return np.concatenate([corners[:, 0], corners[:, 1]], axis=1).astype(np.float32)

    annotated, images, predictions, truths = [], [], [], []
    for number in range(k.images):
        count = int(rng.choice([0, 1, 3, 5]))
        own = boxes(count)
        labels = rng.integers(0, k.objects, count)
        if count and rng.random() < 0.3:
            own = np.repeat(own[:1], count, axis=0)
        subjects = np.arange(count) if any_subject else np.flatnonzero(labels == 0)
        relations = np.zeros((0, 3), np.int64)
        if len(subjects) and rng.random() < 0.85:
            size = int(rng.integers(0, 6))
            relations = np.stack(
                [rng.choice(subjects, size), rng.integers(0, count, size), rng.integers(0, k.verbs, size)], axis=1
            )
            if kind == "v_coco":
                relations[rng.random(size) < 0.3, 1] = -1
            if size and rng.random() < 0.4:
                relations = np.concatenate([relations, relations[: int(rng.integers(1, size + 1))]])
        pairs = int(rng.integers(0, k.pairs + 1))
        sides = []
        for side in (0, 1):
            found, found_labels = boxes(pairs), rng.integers(0, k.objects + (side and kind == "v_coco"), pairs)
            if count:
                near = rng.random(pairs) < 0.75
                chosen = rng.integers(0, count, pairs)
                if len(relations) and rng.random() < 0.8:
                    chosen = np.maximum(relations[rng.integers(0, len(relations), pairs), side], 0)
                moved = own[chosen] + rng.integers(-1, 2, (pairs, 4)) * (rng.random((pairs, 1)) < 0.4)
                found[near] = moved[near]
                found_labels[near] = labels[chosen][near]
            sides.append((found.astype(np.float32), found_labels))
        (sub_boxes, sub_labels), (obj_boxes, obj_labels) = sides
        if kind != "open_images":
            sub_labels = np.zeros(pairs, np.int64)
        scores = (rng.integers(0, k.levels + 1, (pairs, k.verbs)) / k.levels + k.offset).astype(np.float32)
        image_id = f"image {number}"
        annotated.append(AnnotatedImage(image_id, (k.grid, k.grid), own, labels, relations))
        images.append(ImagePredictions(image_id, sub_boxes, obj_boxes, sub_labels, obj_labels, scores))
        predictions.append(
            {
                "boxes": np.concatenate([sub_boxes, obj_boxes]),
                "labels": np.concatenate([sub_labels, obj_labels]),
                "sub_ids": np.arange(pairs),
                "obj_ids": np.arange(pairs, 2 * pairs),
                "verb_scores": scores,
            }
        )
        truths.append({"id": number, "boxes": own, "labels": labels, "hois": relations})
    return World(
        ground_truth_of(annotated), vocabulary, tuple(images), predictions, truths, valid.astype(np.float64), rng
    )


def worlds(kind: str) -> st.SearchStrategy[World]:
    return knobs.map(lambda chosen: make_world(kind, chosen))
