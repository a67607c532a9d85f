"""Signs that predictions were misunderstood, not merely wrong: a figure of 0, boxes in other units, labels counted from 1."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core.ground_truth import GroundTruth
from rlip_assets.evaluation.core.matching import THRESHOLD
from rlip_assets.evaluation.core.overlaps import columns_of, plain_iou
from rlip_assets.evaluation.core.results import ProtocolResult
from rlip_assets.evaluation.core.state import Detections
from rlip_assets.evaluation.core.vocabulary import PERSON
from rlip_assets.evaluation.formats.predictions import PredictionBatch

UNIT = 1.5
"""Boxes whose coordinates all lie below this many pixels are fractions of the image."""
FITTING = 0.8
"""A reading of the labels is believed that puts this share of the scores on interactions of the benchmark, where theirs does not."""
COMPARED = 2000
"""Images whose pairs are compared with the annotated ones when a figure is 0."""


class LabelWatch:
    """Looks at the labels of predictions as they pass, in the numbers of their own file.

    Args:
        valid: (V, O + 1) which verb goes with which object, or None where the benchmark does not say.
        person: label that every subject should have, or None.
    """

    def __init__(self, valid: npt.NDArray[np.bool_] | None, person: int | None) -> None:
        self.valid, self.person = valid, person
        self.pairs = self.persons = 0
        self.shares, self.total = np.zeros(3), 0.0

    def watch(self, batches: Iterable[PredictionBatch]) -> Iterator[PredictionBatch]:
        """Pass batches on, after a look at them."""
        for batch in batches:
            yield batch
            self.pairs += len(batch.sub_labels)
            self.persons += int((batch.sub_labels == self.person).sum())
            if self.valid is not None and len(batch.sub_labels):
                verb = batch.scores.argmax(axis=1)
                score = np.maximum(batch.scores[np.arange(len(verb)), verb], 0).astype(np.float64)
                readings = (verb, batch.obj_labels), (verb, batch.obj_labels - 1), (verb - 1, batch.obj_labels)
                self.total += float(score.sum())
                self.shares += [score[self.valid[reading]].sum() for reading in readings]

    def suspicions(self) -> Iterator[str]:
        """Yield a sentence for each sign."""
        if self.pairs and self.person is not None and not self.persons:
            yield f"no subject is labelled {PERSON!r}: labels index into the file's own list of objects, from 0."
        shares = self.shares / max(self.total, 1e-9)
        best = int(np.argmax(shares))
        if best and shares[0] < FITTING <= shares[best]:
            yield (
                f"its {('objects', 'verbs')[best - 1]} seem to count from 1: {100 * shares[0]:.0f} % of the best scores lie on "
                f"interactions of the benchmark, and {100 * shares[best]:.0f} % if so. They count from 0."
            )


def suspicions(
    results: Sequence[ProtocolResult],
    counts: Mapping[str, int],
    detections: Detections,
    truth: GroundTruth | None,
) -> Iterator[str]:
    """Yield a sentence for each sign that boxes are in other units, or that a figure is 0 for another reason than wrong predictions.

    Args:
        counts, detections: of an evaluator.
        truth: the annotated relations; None where there are official V-COCO annotations only.
    """
    pairs = len(detections.sub_labels)
    if not pairs:
        yield "no pair is predicted in any image."
        return
    largest = float(max(detections.sub_boxes.max(), detections.obj_boxes.max()))
    if largest <= UNIT:
        yield f"no box reaches beyond {largest:.3g} pixels: boxes are pixels of the original image, not fractions of it."
    elif 2 * counts.get("pairs_degenerate", 0) > pairs:
        yield "most boxes have no width or height, or are inside out: boxes are x1, y1, x2, y2, not x, y, width, height."
    elif 2 * counts.get("pairs_outside_image", 0) > pairs:
        yield "most boxes reach over their images' edges: boxes are pixels of the original image, not of a resized one."
    zero = [result.name for result in results if is_zero(result)]
    if zero:
        found = on_annotated_pairs(detections, truth) if truth else 1
        yield f"{', '.join(zero)}: nothing is right. " + (
            f"{found} predicted pairs lie on annotated ones, so look for another order of the classes, or labels counted from 1."
            if truth and found
            else "Look for another order of the classes, and for labels counted from 1."
            if found
            else "No predicted pair lies on an annotated one, so look for boxes in other units, or images under other names."
        )


def is_zero(result: ProtocolResult) -> bool:
    """Return whether there is something to find and nothing was found."""
    tables = result.tables.values()
    return any(table.ranks.positives.any() for table in tables) and not any(table.ranks.right.any() for table in tables)


def on_annotated_pairs(detections: Detections, truth: GroundTruth) -> int:
    """Return how many predicted pairs of the first images lie on an annotated pair, whatever their classes."""
    found = 0
    for place, image in enumerate(detections.image[:COMPARED].tolist()):
        relations = np.arange(truth.relation_offsets[image], truth.relation_offsets[image + 1])
        pairs = np.arange(detections.offsets[place], detections.offsets[place + 1])
        first, second = (grid.reshape(-1) for grid in np.meshgrid(pairs, relations, indexing="ij"))
        near = np.ones(len(first), bool)
        for predicted, annotated in ((detections.sub_boxes, truth.subject), (detections.obj_boxes, truth.object)):
            boxes, others = columns_of(predicted[first]), columns_of(truth.boxes[annotated[second]])
            near &= plain_iou(boxes, others) >= THRESHOLD
        found += len(np.unique(first[near]))
    return found
