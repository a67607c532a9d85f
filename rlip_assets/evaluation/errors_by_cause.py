"""Causes of wrong predictions.

The best R triplets of every image are looked at, R being the number of its annotated relations, so that a perfect detector has only
right ones. Each gets the first cause that applies, in the order of `CAUSES`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core.ground_truth import GroundTruth
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.predictions import ImagePredictions, PredictionBatch
from rlip_model.boxes import iou

RIGHT, DUPLICATE, VERB, OBJECT, BOX, BACKGROUND = "right", "duplicate", "verb", "object", "box", "background"
CAUSES = {
    RIGHT: "boxes, classes and verb agree with a relation that no better triplet found",
    DUPLICATE: "as right, but a better triplet found the relation",
    VERB: "the boxes hold a relation of these classes, with another verb",
    OBJECT: "the boxes hold a relation of this verb, with another class of subject or object",
    BOX: "a relation of these classes and verb overlaps, but by less than 0.5 at one end",
    BACKGROUND: "none of this",
}
SAME, NEAR = 0.5, 0.1
Boxes = npt.NDArray[np.float64]


class CauseCounter:
    """Counts causes image by image.

    Args:
        persons: every subject counts as a person, as the human-object benchmarks have it.
        listed_only: a score of 0 says that the triplet was not listed (see `Evaluator`).
        person_filter: drop pairs whose subject is no person, as HICO-DET without fine-tuning does.
    """

    def __init__(
        self,
        truth: GroundTruth,
        vocabulary: Vocabulary,
        *,
        persons: bool,
        listed_only: bool = False,
        person_filter: bool = False,
    ) -> None:
        self.truth, self.vocabulary, self.persons = truth, vocabulary, persons
        self.listed_only, self.person_filter = listed_only, person_filter
        self.counts: Counter[str] = Counter(dict.fromkeys(CAUSES, 0))
        self.by_verb: dict[str, Counter[str]] = {verb: Counter() for verb in vocabulary.verbs}

    def watch(self, batches: Iterable[PredictionBatch]) -> Iterator[PredictionBatch]:
        """Pass batches on, after counting their images."""
        for batch in batches:
            yield batch
            for image in batch.images():
                self.update(image)

    def update(self, image: ImagePredictions) -> None:
        """Add one image of the annotations."""
        truth = self.truth
        number = truth.index[image.image_id]
        rows = slice(truth.relation_offsets[number], truth.relation_offsets[number + 1])
        verbs, has_object = truth.relations[rows, 2], truth.has_object[rows]
        ends = [
            (truth.boxes[own[rows]].astype(np.float64), truth.labels[own[rows]])
            for own in (truth.subject, truth.object)
        ]
        takes_part = self.vocabulary.valid.T[image.obj_labels]
        if self.person_filter:
            takes_part = takes_part & (image.sub_labels == self.vocabulary.person)[:, None]
        if self.listed_only:
            takes_part = takes_part & (image.scores > 0)
        scores = np.where(takes_part, image.scores, -np.inf)
        best = np.argsort(-scores, axis=None, kind="stable")[: len(verbs)]
        best = best[scores.reshape(-1)[best] > -np.inf]
        pairs, chosen = np.divmod(best, scores.shape[1])
        found = np.zeros(len(verbs), bool)
        for pair, verb in zip(pairs.tolist(), chosen.tolist(), strict=True):
            overlap = iou(image.sub_boxes[pair], ends[0][0], side=1)
            same_class = np.ones(len(verbs), bool) if self.persons else ends[0][1] == image.sub_labels[pair]
            with_object = iou(image.obj_boxes[pair], ends[1][0], side=1)
            overlap = np.where(has_object, np.minimum(overlap, with_object), overlap)
            same_class &= ~has_object | (ends[1][1] == image.obj_labels[pair])
            cause = _cause(overlap, same_class, verbs == verb, found)
            self.counts[cause] += 1
            self.by_verb[self.vocabulary.verbs[verb]][cause] += 1

    def shares(self) -> dict[str, float]:
        """Share of each cause among all triplets looked at; zeros where there were none."""
        total = sum(self.counts.values())
        return {cause: count / total if total else 0.0 for cause, count in self.counts.items()}


def _cause(
    overlap: Boxes, same_class: npt.NDArray[np.bool_], same_verb: npt.NDArray[np.bool_], found: npt.NDArray[np.bool_]
) -> str:
    """Cause of one triplet; marks the relation that it finds in `found`."""
    there = overlap >= SAME
    right = there & same_class & same_verb
    if (right & ~found).any():
        found[np.argmax(np.where(right & ~found, overlap, -1.0))] = True
        return RIGHT
    if right.any():
        return DUPLICATE
    if (there & same_class).any():
        return VERB
    if (there & same_verb).any():
        return OBJECT
    return BOX if ((overlap >= NEAR) & same_class & same_verb).any() else BACKGROUND
