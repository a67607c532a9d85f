"""Scenes as tensors: images with their padding, and the targets that the criterion compares predictions with.

Shape legend: B images, P pair slots, n targets of an image, Nv relation labels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from rlip_assets.datasets.scenes import NO_OBJECT, Scene
from rlip_assets.training.label_lists import LabelList
from rlip_model import Targets


def unit_boxes(scene: Scene) -> npt.NDArray[np.float32]:
    """Return the boxes as (n, 4) centre and size in fractions of the image."""
    low, high = scene.boxes[:, :2], scene.boxes[:, 2:]
    scale = np.array([scene.width, scene.height] * 2, np.float32)
    return (np.concatenate([(low + high) / 2, high - low], axis=1) / scale).astype(np.float32)


def ranked_pairs(scene: Scene) -> list[tuple[int, int]]:
    """Return the distinct (subject, object) pairs: human before pseudo labels, these by falling confidence, equals in table order."""
    confidence = np.where(np.isnan(scene.confidence), np.inf, scene.confidence)
    order = np.argsort(-confidence, kind="stable")
    return list(dict.fromkeys(zip(scene.subject[order].tolist(), scene.object[order].tolist(), strict=True)))


def pair_targets(
    scene: Scene,
    pairs: list[tuple[int, int]],
    labels: LabelList,
    confidence_weight: bool = False,
    subject_label: int | None = None,
    share_inflections: bool = False,
) -> Targets:
    """Return the targets of some pairs of a scene; pairs without a triplet get no relation.

    Args:
        pairs: n pairs of box indices; an object of `NO_OBJECT` becomes a box of zeros and the label of a missing object.
        labels: their columns.
        confidence_weight: relations of pseudo labels weigh their confidence instead of 1.
        subject_label: the label that all subjects get instead of their own.
        share_inflections: a relation is a positive of every label that is an inflection of its text.
    """
    boxes = np.concatenate([unit_boxes(scene), np.zeros((1, 4), np.float32)])  # the last row is that of NO_OBJECT = -1
    index = labels.object_index
    rows = {pair: row for row, pair in enumerate(pairs)}
    relations = np.zeros((len(pairs), len(labels.relations)), np.float32)
    for subject, thing, text, confidence in zip(
        scene.subject.tolist(), scene.object.tolist(), scene.relation, scene.confidence.tolist(), strict=True
    ):
        row = rows.get((subject, thing))
        if row is not None:
            weight = confidence if confidence_weight and confidence == confidence else 1.0
            columns = list(labels.inflections[text]) if share_inflections else labels.relation_index[text]
            relations[row, columns] = np.maximum(relations[row, columns], weight)
    subjects = [pair[0] for pair in pairs]
    objects = [pair[1] for pair in pairs]
    names = [scene.labels[i] for i in subjects]
    return Targets(
        sub_labels=torch.tensor([index[name] if subject_label is None else subject_label for name in names]).long(),
        obj_labels=torch.tensor(
            [index[scene.labels[i]] if i != NO_OBJECT else labels.missing_label for i in objects]
        ).long(),
        relations=torch.from_numpy(relations),
        sub_boxes=torch.from_numpy(boxes[subjects].reshape(-1, 4)),
        obj_boxes=torch.from_numpy(boxes[objects].reshape(-1, 4)),
    )


def tagger_pairs(scene: Scene, number: int, generator: np.random.Generator) -> list[tuple[int, int]]:
    """Return the pairs to train the R-Tagger on: the annotated ones, then random other ordered pairs of boxes.

    There are `number` in all where the image has as many; of more annotated pairs a random choice is taken. Pairs without an object are
    left out.
    """
    positives = [pair for pair in ranked_pairs(scene) if pair[1] != NO_OBJECT]
    if len(positives) > number:
        return [positives[row] for row in generator.permutation(len(positives))[:number].tolist()]
    taken, count = set(positives), len(scene.labels)
    others = [(i, j) for i in range(count) for j in range(count) if i != j and (i, j) not in taken]
    return positives + [others[row] for row in generator.permutation(len(others))[: number - len(positives)].tolist()]
