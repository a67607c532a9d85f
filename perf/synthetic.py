"""Synthetic predictions at full scale, and annotations where real ones are not at hand.

Every image gets Q pairs, as a set predictor with Q queries gives them: about a third lie around annotated pairs, some well, some
badly, several on one; the others are boxes anywhere, half of them with a label that the image has. Scores are low noise, with
the annotated verbs raised on the pairs that lie well, so that duplicates, slips and inventions occur among the best 100.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from rlip_assets.evaluation.core.ground_truth import AnnotatedImage, GroundTruth, ground_truth_of
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.predictions import ImagePredictions, PredictionWriter
from rlip_assets.evaluation.v_coco.actions import OFFICIAL_VERBS, actions_of_names
from rlip_assets.evaluation.v_coco.ground_truth import CocoBoxes, OfficialTruth, official_truth_of_coco

VCOCO_IMAGES, OPEN_IMAGES_IMAGES = 4_946, 5_322
SIZE = np.array([640, 480])
ACTIONS = actions_of_names(OFFICIAL_VERBS)


def random_boxes(rng: np.random.Generator, count: int, width: float, height: float) -> np.ndarray:
    """(count, 4) boxes anywhere in an image."""
    corners = np.sort(rng.random((count, 2, 2)), axis=1).reshape(count, 4)
    return corners * np.array([width, height, width, height])


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
    for image in range(len(truth)):
        relations = np.arange(truth.relation_offsets[image], truth.relation_offsets[image + 1])
        size = np.where(truth.sizes[image] > 0, truth.sizes[image], SIZE)
        boxes = [random_boxes(rng, pairs, *size) for _ in range(2)]
        labels = [rng.integers(0, num_objects, pairs) for _ in range(2)]
        scores = rng.beta(0.6, 18, (pairs, num_verbs))
        confidence = rng.beta(1, 4, pairs)
        if len(relations):
            chosen = rng.choice(relations, pairs)
            near = rng.random(pairs) < 0.35
            named = near | (rng.random(pairs) < 0.5)
            spread = rng.choice([0.03, 0.12, 0.4], pairs, p=[0.3, 0.4, 0.3])
            for side, rows in enumerate((truth.subject[chosen], truth.object[chosen])):
                own = truth.boxes[rows].astype(np.float64)
                sides = np.tile(own[:, 2:] - own[:, :2], 2)
                boxes[side][near] = (own + rng.normal(0, 1, own.shape) * spread[:, None] * sides)[near]
                labels[side][named] = truth.labels[rows][named]
            good = np.flatnonzero(near & (spread < 0.2))
            verbs = truth.relations[chosen[good], 2]
            scores[good, verbs] = np.maximum(scores[good, verbs], rng.beta(3, 2, len(good)))
            confidence = np.where(near, rng.uniform(0.5, 1, pairs), confidence)
        yield ImagePredictions(
            truth.image_ids[image],
            boxes[0].astype(np.float32),
            boxes[1].astype(np.float32),
            (labels[0] if any_subject else np.full(pairs, vocabulary.person)).astype(np.int32),
            labels[1].astype(np.int32),
            (scores * confidence[:, None]).astype(np.float32),
        )


def write_predictions(
    path: Path, truth: GroundTruth, vocabulary: Vocabulary, pairs: int, seed: int, any_subject: bool = False
) -> None:
    """Write `predictions_for` as a predictions file."""
    with PredictionWriter(path, vocabulary.dataset, vocabulary.objects, vocabulary.verbs, {"seed": seed}) as writer:
        for image in predictions_for(truth, vocabulary, pairs, seed, any_subject):
            writer.write(image)


def open_images_truth(images: int, seed: int) -> tuple[GroundTruth, Vocabulary]:
    """Annotations in the number and vocabulary of Open Images v6: 288 objects, 30 predicates, frequent triplets repeating."""
    rng = np.random.default_rng(seed)
    vocabulary = Vocabulary(
        "open_images", ("person", *(f"object {i}" for i in range(1, 288))), tuple(f"predicate {i}" for i in range(30))
    )
    triplets = np.stack([rng.integers(0, 288, 600), rng.integers(0, 288, 600), rng.integers(0, 30, 600)], axis=1)
    weights = 1 / np.arange(1, 601)
    annotated = []
    for image in range(images):
        count = int(rng.integers(1, 6))
        chosen = triplets[rng.choice(600, count, p=weights / weights.sum())]
        boxes = random_boxes(rng, 2 * count, *SIZE)
        relations = np.stack([np.arange(count), np.arange(count, 2 * count), chosen[:, 2]], axis=1)
        labels = np.concatenate([chosen[:, 0], chosen[:, 1]])
        annotated.append(AnnotatedImage(f"{image:016x}", tuple(SIZE), boxes, labels, relations))
    return ground_truth_of(annotated), vocabulary


@dataclass(frozen=True)
class VcocoParts:
    """V-COCO annotations in their official parts; see `official_truth_of_coco` for `agents`, `does` and `fillers`."""

    images: int
    coco: CocoBoxes
    agents: np.ndarray
    does: np.ndarray
    fillers: np.ndarray

    def first(self, images: int) -> VcocoParts:
        """The first images only."""
        own = self.coco.image < images
        coco = CocoBoxes(*(getattr(self.coco, field.name)[own] for field in fields(CocoBoxes)))
        agents = np.isin(self.agents, coco.ids)
        return VcocoParts(images, coco, self.agents[agents], self.does[:, agents], self.fillers[:, agents])

    def truth(self) -> OfficialTruth:
        """As the official evaluator takes them."""
        names, sizes = tuple(str(i) for i in range(self.images)), np.tile(SIZE, (self.images, 1))
        return official_truth_of_coco(names, sizes, ACTIONS, self.coco, self.agents, self.does, self.fillers)

    def pairs(self) -> GroundTruth:
        """As relations, for the evaluator of training and to draw predictions around."""
        starts = np.searchsorted(self.coco.image, np.arange(self.images + 1))
        place = np.arange(len(self.coco.ids)) - starts[self.coco.image]
        corners, _ = self.coco.cleaned(np.tile(SIZE, (self.images, 1)))
        relations: list[list[tuple[int, int, int]]] = [[] for _ in range(self.images)]
        row_of = {int(key): row for row, key in enumerate(self.coco.ids)}
        for action, column in np.argwhere(self.does):
            agent = row_of[int(self.agents[column])]
            for verb in ACTIONS.verbs_of(action):
                role = ACTIONS.verbs[verb][1]
                filler = row_of.get(int(self.fillers[action, column, role])) if role >= 0 else None
                thing = -1 if filler is None else int(place[filler])
                relations[self.coco.image[agent]].append((int(place[agent]), thing, verb))
        rows = [slice(starts[i], starts[i + 1]) for i in range(self.images)]
        return ground_truth_of(
            AnnotatedImage(str(i), tuple(SIZE), corners[own], self.coco.category[own] - 1, relations[i])
            for i, own in enumerate(rows)
        )


def vcoco_parts(images: int, seed: int) -> VcocoParts:
    """Annotations in the number and form of the V-COCO test set: COCO boxes, labelled and unlabelled persons, their roles."""
    rng = np.random.default_rng(seed)
    persons, things = rng.integers(1, 6, images), rng.integers(0, 5, images)
    image = np.repeat(np.arange(images), persons + things)
    place = np.arange(len(image)) - np.searchsorted(image, image)
    is_person = place < persons[image]
    corners = random_boxes(rng, len(image), *(SIZE - 2))
    xywh = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2] + 1], axis=1)
    category = np.where(is_person, 1, rng.integers(2, 81, len(image)))
    ids = np.arange(1, len(image) + 1)
    coco = CocoBoxes(ids, image, category, xywh, np.ones(len(image)), np.zeros(len(image), bool))
    agents = ids[is_person & (rng.random(len(ids)) < 0.7)]
    does = (rng.random((len(ACTIONS.names), len(agents))) < 0.1).astype(np.int64)
    fillers = np.zeros((*does.shape, 2), np.int64)
    agent_image = image[agents - 1]
    first_thing = np.searchsorted(image, np.arange(images)) + persons
    for action, roles in enumerate(ACTIONS.roles):
        for role in range(len(roles)):
            filled = (does[action] == 1) & (things[agent_image] > 0) & (rng.random(len(agents)) < 0.8)
            chosen = first_thing[agent_image] + rng.integers(0, np.maximum(1, things[agent_image]))
            fillers[action, filled, role] = ids[chosen[filled]]
    return VcocoParts(images, coco, agents, does, fillers)


def vcoco_vocabulary() -> Vocabulary:
    """80 objects, 29 verbs."""
    return Vocabulary("v_coco", ("person", *(f"object {i}" for i in range(2, 81))), tuple(OFFICIAL_VERBS))
