"""Open Images v6 scene graphs over predicates: the usual protocol (J. Zhang's evaluation, kept by PySGG and its followers).

Of each pair the two best predicates, of these the best 100 per image, without scores of 1e-5 and below; no suppression.

* AP: one class per predicate; the labels of subject and object need only be right. A detection's best relation is the one of its
  triplet with the greatest overlap (for relations the smaller of the two, for phrases that of the boxes around both); it must
  be above 0.5, and is found once. Area under the precision envelope; predicates without annotations count 0 in the plain mean.
* Recall: a relation is found if any of the best K has its triplet and both boxes at 0.5 or more; several may find the same one,
  and one may find several. Micro over the test set; `mean_recall_50` is the mean over annotated predicates.

Overlaps count pixels (+1), and boxes that touch in an edge overlap.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core import protocols
from rlip_assets.evaluation.core.average_precision import all_points_ap, rank_by_class
from rlip_assets.evaluation.core.evaluator import Evaluator
from rlip_assets.evaluation.core.ground_truth import GroundTruth
from rlip_assets.evaluation.core.matching import THRESHOLD, best_relations, credit, near_pairs, near_phrases
from rlip_assets.evaluation.core.overlaps import columns_of, plain_iou
from rlip_assets.evaluation.core.results import ClassTable, ProtocolResult, mean, ratio
from rlip_assets.evaluation.core.selection import Cells, top_cells
from rlip_assets.evaluation.core.state import FlatCells
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.predictions import PredictionBatch
from rlip_assets.evaluation.open_images.triplet import PHRASE, RELATION, triplet_keys

TOP = 100
PREDICATES_PER_PAIR = 2
LEAST_SCORE = 1e-5
RECALL_AT = (50, 100)


class OpenImagesPredicateEvaluator(Evaluator[GroundTruth, list[ProtocolResult]]):
    """Open Images evaluation over predicates.

    Figures: `recall_50`, `recall_100`, `mean_recall_50`, `mean_recall_100`, `map_rel`, `map_phr`, `wmap_rel`, `wmap_phr`
    (weighted by annotated relations) and `score_wtd` = 0.2 recall_50 + 0.4 wmap_rel + 0.4 wmap_phr.
    """

    def __init__(self, truth: GroundTruth, vocabulary: Vocabulary) -> None:
        super().__init__(truth, vocabulary)
        truth.check_classes(len(vocabulary.objects), len(vocabulary.verbs))

    def select(self, batch: PredictionBatch) -> dict[str, Cells]:
        best = top_cells(best_verbs(batch, PREDICATES_PER_PAIR), TOP)
        return {"top": best.where(best.score > LEAST_SCORE)}

    def compute(self) -> list[ProtocolResult]:
        truth, vocabulary = self.truth, self.vocabulary
        detections = self.gathered()
        cells = FlatCells.of(detections, detections.cells["top"], suppressed=False, last_first=False)
        boxes = columns_of(detections.sub_boxes), columns_of(detections.obj_boxes)
        keys = triplet_keys(vocabulary, detections.sub_labels[cells.row], detections.obj_labels[cells.row], cells.verb)
        verb = truth.relations[:, 2]
        truth_keys = triplet_keys(vocabulary, truth.labels[truth.subject], truth.labels[truth.object], verb)
        positives = np.bincount(verb, minlength=len(vocabulary.verbs))
        pairs = near_pairs(cells, keys, truth, truth_keys, boxes, truth.columns, plain_iou)
        phrases = near_phrases(cells, keys, truth, truth_keys, boxes, truth.columns, plain_iou)
        figures: dict[str, float] = {}
        tables = {}
        place = places_within_images(cells)
        for k in RECALL_AT:
            found = np.bincount(verb[np.unique(pairs[1][place[pairs[0]] < k])], minlength=len(positives))
            figures[f"recall_{k}"] = ratio(found.sum(), len(verb))
            figures[f"mean_recall_{k}"] = mean(found[positives > 0] / positives[positives > 0])
        for task, (cell, relation, overlap) in ((RELATION, pairs), (PHRASE, phrases)):
            above = overlap > THRESHOLD
            best = best_relations(len(keys), cell[above], relation[above], overlap[above])
            right = credit(best, cells.score, cells.order)
            ranks = rank_by_class(cells.verb, cells.score, right, cells.order, positives)
            ap = all_points_ap(ranks)
            figures |= {f"map_{task}": mean(ap), f"wmap_{task}": ratio(np.sum(ap * positives), len(verb))}
            tables[task] = ClassTable([(name,) for name in vocabulary.verbs], np.arange(len(ap)), ranks, ap)
        figures["score_wtd"] = 0.2 * figures["recall_50"] + 0.4 * figures["wmap_rel"] + 0.4 * figures["wmap_phr"]
        return [ProtocolResult(protocols.OI_PREDICATE, "", figures, tables)]


def best_verbs(batch: PredictionBatch, count: int) -> Cells:
    """The best verbs of each pair, best first; of equal scores the verb listed first."""
    pairs, num_verbs = batch.scores.shape
    count = min(count, num_verbs)
    left = batch.scores.astype(np.float32, copy=True)
    verbs = np.empty((pairs, count), np.int32)
    scores = np.empty((pairs, count), np.float32)
    rows = np.arange(pairs)
    for place in range(count):
        verbs[:, place] = left.argmax(axis=1)
        scores[:, place] = left[rows, verbs[:, place]]
        left[rows, verbs[:, place]] = -np.inf
    pair = (rows - np.repeat(batch.offsets[:-1], np.diff(batch.offsets))).astype(np.int32)
    return Cells.of(batch.offsets * count, np.repeat(pair, count), verbs.reshape(-1), scores.reshape(-1))


def places_within_images(cells: FlatCells) -> npt.NDArray[np.int64]:
    """(n,) 0 for an image's best-scored cell, 1 for the next, and so on."""
    ranked = np.lexsort((cells.order, -cells.score, cells.image))
    image = cells.image[ranked]
    place = np.empty(len(ranked), np.int64)
    place[ranked] = np.arange(len(ranked)) - np.searchsorted(image, image)
    return place
