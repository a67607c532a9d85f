"""Own labels: pseudo labels of a benchmark's training images, beside what a setting shows of the human ones.

An image outside a few-shot share trains on its own labels alone. In the others a pair that people labelled keeps their word, and own labels
say what they were not asked: other pairs, and combinations that a zero-shot split hides. Such a label comes from a caption and a detector's
boxes (`labelling/detections.py`); a hidden human label is dropped before own labels are looked at, with its boxes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rlip_assets.datasets.language.verbs import VerbMatcher
from rlip_assets.datasets.scenes import NO_OBJECT, Scene, SceneStore
from rlip_assets.datasets.sources.classes import Classes, interaction_names
from rlip_assets.evaluation.core.vocabulary import PERSON
from rlip_assets.storage.errors import DataError
from rlip_assets.training.transforms import keep_boxes, keep_triplets
from rlip_assets.training.unseen import Unseen
from rlip_model.boxes import iou

SAME_PAIR = 0.5
"""IoU of both boxes from which a detected pair is an annotated one, as evaluators count hits."""
TRAINING_SPLIT = "train"


class OwnLabels:
    """The own labels of a benchmark, in its words.

    Args:
        tables: scene tables with pseudo labels.
        threshold: labels of less confidence are left out.
        unseen: what a zero-shot split hides from human labels.

    Raises:
        DataError: a table has an image of another split than the training split.
    """

    def __init__(
        self, tables: Sequence[Path], cache: Path, classes: Classes, threshold: float, unseen: Unseen | None
    ) -> None:
        self.store = SceneStore.open(tables, cache)
        if len(self.store.indices(TRAINING_SPLIT)) != len(self.store):
            raise DataError(
                f"{tables[0]} labels images outside the training split of {classes.dataset}; make these labels again"
            )
        self._row = {self.store.image_id(row): row for row in range(len(self.store))}
        self._threshold, self._verbs = threshold, VerbMatcher(classes.relations or [])
        self._trained = {
            (verb, thing)
            for verb, thing in interaction_names(classes)
            if unseen is None or (verb not in unseen.relations and thing not in unseen.objects)
        }
        self._hidden = unseen.combinations if unseen else frozenset[tuple[str, str]]()

    def alone(self, scene: Scene) -> Scene:
        """Return a row of the table with those triplets that are confident and name an interaction of the benchmark, in its words."""
        verbs = [self._verb(scene, row) for row in range(len(scene.relation))]
        named = replace(scene, relation=tuple(verb or "" for verb in verbs))
        return keep_triplets(named, np.array([verb is not None for verb in verbs], bool))

    def rows_alone(self, known: set[str]) -> Iterator[int]:
        """Yield the rows of images that are not `known` and have an own label."""
        for image_id, row in self._row.items():
            if image_id not in known and len(self.alone(self.store[row]).relation):
                yield row

    def added(self, scene: Scene) -> Scene:
        """Return what is visible of an annotated image with its own labels: boxes of visible triplets, then detected ones."""
        human = _labelled_boxes(scene)
        row = self._row.get(scene.image_id)
        own = None if row is None else self.alone(self.store[row])
        if own is None or (own.width, own.height) != (scene.width, scene.height):
            return human
        pairs = list(zip(human.subject.tolist(), human.object.tolist(), strict=True))
        added: list[tuple[int, int, str, float]] = []
        for subject, thing, verb, confidence in zip(
            own.subject.tolist(), own.object.tolist(), own.relation, own.confidence.tolist(), strict=True
        ):
            pair = _same_pair(human, pairs, own, (subject, thing))
            if pair is None:
                added.append((subject + len(human.labels), thing + len(human.labels), verb, confidence))
            elif (verb, own.labels[thing]) in self._hidden:
                added.append((*pair, verb, confidence))
        return _with_triplets(human, own, added)

    def account(self) -> dict[str, Any]:
        """Return the number of images and labels: those that are used, and by reason those that are not, with the most frequent relation
        texts that name no verb."""
        counts, texts = Counter[str](images=len(self.store)), Counter[str]()
        for scene in self.store:
            for row, text in enumerate(scene.relation):
                reason = self._refusal(scene, row)
                counts[reason or "used"] += 1
                texts.update([text] if reason == "unknown_verbs" else [])
        return {**counts, "texts_of_unknown_verbs": dict(texts.most_common(20))}

    def _verb(self, scene: Scene, row: int) -> str | None:
        return None if self._refusal(scene, row) else self._verbs.match(scene.relation[row])

    def _refusal(self, scene: Scene, row: int) -> str | None:
        """The reason why a triplet is no label; None where it is one."""
        verb, thing = self._verbs.match(scene.relation[row]), scene.labels[scene.object[row]]
        if scene.confidence[row] < self._threshold:
            return "below_threshold"
        if scene.labels[scene.subject[row]] != PERSON:
            return "other_subjects"
        if verb is None:
            return "unknown_verbs"
        return None if (verb, thing) in self._trained else "other_interactions"


def _labelled_boxes(scene: Scene) -> Scene:
    """Return the scene with the boxes of its triplets alone."""
    kept = np.zeros(len(scene.labels) + 1, bool)  # the last entry is that of NO_OBJECT = -1
    kept[scene.subject] = kept[scene.object] = True
    return keep_boxes(scene, kept[:-1])


def _same_pair(
    human: Scene, pairs: Sequence[tuple[int, int]], own: Scene, found: tuple[int, int]
) -> tuple[int, int] | None:
    """Return the annotated pair that a detected one is; of several the best overlapping."""
    best, chosen = SAME_PAIR, None
    for subject, thing in pairs:
        if thing == NO_OBJECT or human.labels[thing] != own.labels[found[1]]:
            continue
        overlaps = iou(human.boxes[subject], own.boxes[found[0]]), iou(human.boxes[thing], own.boxes[found[1]])
        if (overlap := float(min(overlaps))) >= best:
            best, chosen = overlap, (subject, thing)
    return chosen


def _with_triplets(human: Scene, own: Scene, added: Sequence[tuple[int, int, str, float]]) -> Scene:
    """Return a scene with the boxes of both, and further triplets."""
    pairs = np.array([triplet[:2] for triplet in added], np.int32).reshape(-1, 2)
    return replace(
        human,
        boxes=np.concatenate([human.boxes, own.boxes]),
        labels=(*human.labels, *own.labels),
        subject=np.concatenate([human.subject, pairs[:, 0]]),
        object=np.concatenate([human.object, pairs[:, 1]]),
        relation=(*human.relation, *(triplet[2] for triplet in added)),
        confidence=np.concatenate([human.confidence, np.array([triplet[3] for triplet in added], np.float32)]),
    )
