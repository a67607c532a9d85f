"""HICO-DET: the protocol of RLIPv2 and that of the official Matlab evaluation, each with and without pair suppression.

Both are computed from one pass over the predictions. How they differ is said in `protocols.DESCRIPTIONS`; the rules are those of
the public RLIPv2 evaluator (`hico_eval.py`) and of the public HO-RCNN Matlab evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core import protocols
from rlip_assets.evaluation.core.average_precision import ELEVEN_POINTS, MATLAB_POINTS, interpolated_ap, rank_by_class
from rlip_assets.evaluation.core.evaluator import Evaluator, require_person_subjects
from rlip_assets.evaluation.core.ground_truth import GroundTruth
from rlip_assets.evaluation.core.matching import best_relations, credit, near_pairs
from rlip_assets.evaluation.core.overlaps import Columns, columns_of, plain_iou, strict_iou
from rlip_assets.evaluation.core.ragged import offsets_of, owners_of, ranges
from rlip_assets.evaluation.core.resampling import ImageMatches, Ranks, Resampling
from rlip_assets.evaluation.core.results import ClassTable, ProtocolResult, mean
from rlip_assets.evaluation.core.selection import Cells, masked_top_cells, valid_cells
from rlip_assets.evaluation.core.state import Detections, FlatCells
from rlip_assets.evaluation.core.suppression import Crowded, Pairs, by_row, conflicting_pairs, crowded_pairs, settle
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.predictions import PredictionBatch
from rlip_assets.evaluation.hico_det.known_object import KnownObjects

TOP = 100
BOTH = (protocols.HICO_RLIPV2, protocols.HICO_MATLAB)


class HicoDetEvaluator(Evaluator[GroundTruth, list[ProtocolResult]]):
    """HICO-DET evaluation.

    Args:
        truth: the test images.
        vocabulary: classes; its `hois` are the interaction classes and the validity mask.
        only: which protocols to compute; one alone is faster.
        variants: "plain", "nms" or both.
        class_groups: name to class keys whose mean AP is reported beside "full". Default: "rare" and "non_rare" of the
            vocabulary. For a zero-shot setting give `zero_shot_groups(vocabulary, "uc_rf")`.
        person_filter: drop pairs whose subject is not a person (predictions without fine-tuning); otherwise every subject
            counts as a person.
        known_objects: image-level labels; adds the Known-Object setting of each protocol.
        top: triplets an image for the RLIPv2 protocol.
    """

    def __init__(
        self,
        truth: GroundTruth,
        vocabulary: Vocabulary,
        *,
        only: Sequence[str] = BOTH,
        variants: Sequence[str] = (protocols.PLAIN, protocols.NMS),
        class_groups: Mapping[str, npt.NDArray[np.int64]] | None = None,
        person_filter: bool = False,
        known_objects: KnownObjects | None = None,
        top: int = TOP,
    ) -> None:
        self.only, self.variants, self.top = tuple(only), tuple(variants), top
        self.selections = tuple(
            name for name, needed in (("top", protocols.HICO_RLIPV2), ("all", protocols.HICO_MATLAB)) if needed in only
        )
        super().__init__(truth, vocabulary)
        truth.check_classes(len(vocabulary.objects), len(vocabulary.verbs))
        require_person_subjects(truth, vocabulary)
        self.person_filter = person_filter
        self.class_groups = rare_groups(vocabulary) if class_groups is None else dict(class_groups)
        self._truth_keys = truth.labels[truth.object] * len(vocabulary.verbs) + truth.relations[:, 2]
        self._known = None if known_objects is None else known_objects.table(truth, len(vocabulary.objects))

    def prepare(self, batch: PredictionBatch) -> PredictionBatch:
        """Subjects are persons: by filter, or by definition of the benchmark."""
        person = self.vocabulary.person
        if self.person_filter:
            keep = batch.sub_labels == person
            kept = np.concatenate([[0], np.cumsum(keep)])
            rows = np.flatnonzero(keep)
            batch = PredictionBatch(
                batch.image_ids,
                kept[batch.offsets],
                *(
                    getattr(batch, name)[rows]
                    for name in ("sub_boxes", "obj_boxes", "sub_labels", "obj_labels", "scores")
                ),
            )
        return replace(batch, sub_labels=np.full(len(batch.sub_labels), person, np.int32))

    def select(self, batch: PredictionBatch) -> dict[str, Cells]:
        valid = self.vocabulary.valid.copy()
        valid[:, -1] = False  # a pair without an object is no HICO-DET interaction
        cells = valid_cells(batch, valid)
        chosen = {}
        if "top" in self.selections:
            chosen["top"] = masked_top_cells(batch, cells, self.top)
        if "all" in self.selections:
            chosen["all"] = cells
        if protocols.NMS in self.variants:
            crowded = crowded_pairs(columns_of(batch.sub_boxes), columns_of(batch.obj_boxes))
            chosen = {name: self._suppressed(batch, own, crowded, name == "all") for name, own in chosen.items()}
        return chosen

    def _suppressed(self, batch: PredictionBatch, cells: Cells, crowded: Crowded, complete: bool) -> Cells:
        """Mark the cells that survive suppression among those of one image, object label and verb.

        Args:
            complete: all verbs of a pair's object label are there, so conflicts of pairs are conflicts of all their cells.
        """
        pair_group = owners_of(batch.offsets) * (len(self.vocabulary.objects) + 1) + batch.obj_labels
        row = batch.offsets[:-1][owners_of(cells.offsets)] + cells.pair
        if complete:
            starts = offsets_of(np.bincount(row, minlength=len(pair_group)))
            first, second = conflicting_pairs(pair_group, crowded)
            counts = np.diff(starts)[first]
            conflicts: Pairs = (ranges(starts[first], counts), ranges(starts[second], counts))
        else:
            groups = pair_group[row] * len(self.vocabulary.verbs) + cells.verb
            conflicts = conflicting_pairs(groups, by_row(crowded, row))
        return replace(cells, survives=settle(conflicts, cells.score, np.arange(len(row))))

    def compute(self) -> list[ProtocolResult]:
        detections = self.gathered()
        boxes = columns_of(detections.sub_boxes), columns_of(detections.obj_boxes)
        results = []
        for protocol, selection in ((protocols.HICO_RLIPV2, "top"), (protocols.HICO_MATLAB, "all")):
            for variant in self.variants if protocol in self.only else ():
                suppressed = variant == protocols.NMS
                cells = FlatCells.of(detections, detections.cells[selection], suppressed, last_first=suppressed)
                results += self._score(protocol, variant, detections, boxes, cells)
        return results

    def _score(
        self,
        protocol: str,
        variant: str,
        detections: Detections,
        boxes: tuple[Columns, Columns],
        cells: FlatCells,
    ) -> list[ProtocolResult]:
        """One protocol and variant; two results when the image labels for the Known-Object setting are there."""
        matlab = protocol == protocols.HICO_MATLAB
        label = detections.obj_labels[cells.row]
        key = label.astype(np.int64) * len(self.vocabulary.verbs) + cells.verb
        classes = self.vocabulary.hoi_keys if matlab else np.unique(self._truth_keys)
        table = _index_of(classes, (len(self.vocabulary.objects) + 1) * len(self.vocabulary.verbs))
        index = table[key]
        truth_index = table[self._truth_keys]
        if not matlab:
            empty = np.diff(self.truth.box_offsets) == 0
            index = np.where(empty[cells.image], -1, index)
        right = self._right(boxes, cells, index, truth_index, matlab)
        positives = np.bincount(truth_index[truth_index >= 0], minlength=len(classes))
        settings = [(protocol, index)]
        if self._known is not None:
            known = np.where(self._known[cells.image, label], index, -1)
            settings.append((KNOWN_OBJECT_NAMES[protocol], known))
        points = MATLAB_POINTS if matlab else ELEVEN_POINTS
        names = [self._class_name(int(each)) for each in classes]
        results = []
        for name, own_index in settings:
            ranks = rank_by_class(own_index, cells.score, right, cells.order, positives)
            ap = interpolated_ap(ranks, points)
            figures = self._figures(classes, ap, ranks.recall)
            result = ProtocolResult(name, variant, figures, {"": ClassTable(names, classes, ranks, ap)})
            if result.name == self.resampled:
                found = own_index, cells.score, right, cells.order, cells.image
                matches = ImageMatches.of(*found, truth_index, self.truth.image, len(classes))
                result = replace(result, resampling=self._resampling(classes, matches))
            results.append(result)
        return results

    def _figures(
        self, classes: npt.NDArray[np.int64], ap: npt.NDArray[np.float64], recall: npt.NDArray[np.float64]
    ) -> dict[str, float]:
        figures = {"full": mean(ap), "max_recall": mean(recall)}
        return figures | {group: mean(ap[np.isin(classes, keys)]) for group, keys in self.class_groups.items()}

    def _resampling(self, classes: npt.NDArray[np.int64], matches: ImageMatches) -> Resampling:
        """Draws of images by the protocol of RLIPv2, which judges the classes that the drawn images have."""

        def figures(ranks: Ranks) -> dict[str, float]:
            judged = ranks[""].positives > 0
            return self._figures(classes[judged], interpolated_ap(ranks[""])[judged], ranks[""].recall[judged])

        return Resampling(len(self.truth), {"": matches}, figures)

    def _right(
        self,
        boxes: tuple[Columns, Columns],
        cells: FlatCells,
        index: npt.NDArray[np.int64],
        truth_index: npt.NDArray[np.int64],
        matlab: bool,
    ) -> npt.NDArray[np.bool_]:
        """(n,) whether each cell is credited with a relation."""
        annotated = self.truth.columns
        if matlab:
            annotated = Columns(*(column - self.truth.origin for column in annotated.double()))
            boxes = boxes[0].double(), boxes[1].double()
        iou = plain_iou if matlab else strict_iou
        near = near_pairs(cells, index, self.truth, truth_index, boxes, annotated, iou)
        return credit(best_relations(len(index), *near), cells.score, cells.order)

    def _class_name(self, key: int) -> tuple[str, ...]:
        label, verb = divmod(key, len(self.vocabulary.verbs))
        return self.vocabulary.verbs[verb], self.vocabulary.objects[label]


KNOWN_OBJECT_NAMES = {
    protocols.HICO_RLIPV2: protocols.HICO_RLIPV2_KNOWN_OBJECT,
    protocols.HICO_MATLAB: protocols.HICO_MATLAB_KNOWN_OBJECT,
}


def rare_groups(vocabulary: Vocabulary) -> dict[str, npt.NDArray[np.int64]]:
    """Class keys of the rare and the other interaction classes."""
    rare = np.isin(np.arange(len(vocabulary.hois)), vocabulary.rare)
    return {"rare": vocabulary.hoi_keys[rare], "non_rare": vocabulary.hoi_keys[~rare]}


def zero_shot_groups(vocabulary: Vocabulary, split: str | Sequence[Sequence[str]]) -> dict[str, npt.NDArray[np.int64]]:
    """Class keys that a zero-shot setting leaves out of training, and the others.

    Raises:
        DataError: the classes name no such setting.
    """
    unseen = np.isin(np.arange(len(vocabulary.hois)), vocabulary.unseen(split))
    return {"unseen": vocabulary.hoi_keys[unseen], "seen": vocabulary.hoi_keys[~unseen]}


def _index_of(classes: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """(size,) position of each class key in `classes`, -1 where it is none."""
    table = np.full(size, -1, np.int64)
    table[classes] = np.arange(len(classes))
    return table
