"""V-COCO as it is scored between epochs of training: 11-point AP by verb over the best 100 triplets per image.

Not the figure that papers report, for which see `official.py`. The rules are those of the public RLIPv2 `vcoco_eval.py`.
One difference: an image with annotated boxes and no detections, on which that code fails, simply has no detections.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from rlip_assets.evaluation.core import protocols
from rlip_assets.evaluation.core.average_precision import interpolated_ap, rank_by_class
from rlip_assets.evaluation.core.evaluator import Evaluator, require_person_subjects
from rlip_assets.evaluation.core.ground_truth import GroundTruth
from rlip_assets.evaluation.core.matching import best_relations, credit, near_pairs
from rlip_assets.evaluation.core.overlaps import columns_of, strict_iou
from rlip_assets.evaluation.core.results import ClassTable, ProtocolResult, mean
from rlip_assets.evaluation.core.selection import Cells, masked_top_cells, valid_cells
from rlip_assets.evaluation.core.state import FlatCells
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.predictions import PredictionBatch

TOP = 100


class VcocoTrainingEvaluator(Evaluator[GroundTruth, list[ProtocolResult]]):
    """V-COCO evaluation during training.

    A relation without an object matches on the person alone, whatever object the pair has.

    Args:
        left_out: numbers of the verbs that the second mean leaves out: actions without a role, and "point". In the official
            vocabulary of 29 these are stand, walk, run, smile and point_instr.
    """

    def __init__(
        self, truth: GroundTruth, vocabulary: Vocabulary, left_out: Collection[int] = (), top: int = TOP
    ) -> None:
        super().__init__(truth, vocabulary)
        truth.check_classes(len(vocabulary.objects), len(vocabulary.verbs))
        require_person_subjects(truth, vocabulary)
        self.left_out, self.top = frozenset(left_out), top

    def prepare(self, batch: PredictionBatch) -> PredictionBatch:
        """Subjects are persons."""
        return replace(batch, sub_labels=np.full(len(batch.sub_labels), self.vocabulary.person, np.int32))

    def select(self, batch: PredictionBatch) -> dict[str, Cells]:
        return {"top": masked_top_cells(batch, valid_cells(batch, self.vocabulary.valid), self.top)}

    def compute(self) -> list[ProtocolResult]:
        truth, num_verbs = self.truth, len(self.vocabulary.verbs)
        detections = self.gathered()
        cells = FlatCells.of(detections, detections.cells["top"], suppressed=False, last_first=False)
        boxes = columns_of(detections.sub_boxes), columns_of(detections.obj_boxes)
        verb = truth.relations[:, 2]
        cell, relation, overlap = near_pairs(
            cells, cells.verb.astype(np.int64), truth, verb, boxes, truth.columns, strict_iou
        )
        same_object = detections.obj_labels[cells.row[cell]] == truth.labels[truth.object[relation]]
        keep = np.flatnonzero(same_object | ~truth.has_object[relation])
        best = best_relations(len(cells.score), cell[keep], relation[keep], overlap[keep])
        right = credit(best, cells.score, cells.order)
        classes = np.unique(verb)
        position = np.full(num_verbs, -1, np.int64)
        position[classes] = np.arange(len(classes))
        positives = np.bincount(verb, minlength=num_verbs)[classes]
        ranks = rank_by_class(position[cells.verb], cells.score, right, cells.order, positives)
        ap = interpolated_ap(ranks)
        by_verb = np.zeros(num_verbs)
        by_verb[classes] = ap
        counted = [verb for verb in range(num_verbs) if verb not in self.left_out]
        figures = {"map_all": mean(ap), "map_thesis": mean(by_verb[counted])}
        table = ClassTable([(self.vocabulary.verbs[verb],) for verb in classes], classes, ranks, ap)
        return [ProtocolResult(protocols.VCOCO_TRAINING, "", figures, {"": table})]
