"""Open Images v6 scene graphs over triplet classes (subject, object, predicate), as RLIPv2 evaluates them.

Two tasks (relation detection RelD, phrase detection PhrD) at K = 100 and 50. The rules are those of the public RLIPv2
`oi_sgg_eval.py`, with three behaviours repaired by default and kept under `compat`:

* with suppression on, phrases are matched before they are sorted and looked up afterwards, so that hits are credited to other
  phrases than those that matched;
* detections in images without annotated boxes are ignored in RelD, but wrong in PhrD (repaired: wrong in both);
* micro recall of PhrD leaves out the relations of classes that were never predicted.

The usual per-predicate protocol, whose figures bear the same names, is in `predicate.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core import protocols
from rlip_assets.evaluation.core.average_precision import ClassRanks, interpolated_ap, rank_by_class
from rlip_assets.evaluation.core.evaluator import Evaluator
from rlip_assets.evaluation.core.ground_truth import GroundTruth
from rlip_assets.evaluation.core.matching import NO_MATCH, Boxes, best_relations, credit, near_pairs, near_phrases
from rlip_assets.evaluation.core.overlaps import columns_of, strict_iou, union_boxes
from rlip_assets.evaluation.core.ragged import owners_of
from rlip_assets.evaluation.core.resampling import ImageMatches, Ranks, Resampling
from rlip_assets.evaluation.core.results import ClassTable, ProtocolResult, mean, ratio
from rlip_assets.evaluation.core.selection import Cells, top_cells, valid_cells
from rlip_assets.evaluation.core.state import Detections, FlatCells
from rlip_assets.evaluation.core.suppression import by_row, conflicting_pairs, crowded_boxes, crowded_pairs, settle
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.predictions import PredictionBatch
from rlip_assets.evaluation.open_images.phrase_defect import shifted_matches

CUTS = (100, 50)
RELATION, PHRASE = "rel", "phr"


class OpenImagesTripletEvaluator(Evaluator[GroundTruth, list[ProtocolResult]]):
    """Open Images evaluation over triplet classes.

    Figures, for both tasks ("rel", "phr") and K of 100 and 50: `map_rel_100`, `wmap_...` (weighted by annotated relations),
    `recall_...` (micro), `mean_recall_...` (over triplet classes). The published ones have short names: `recall_50` (rel),
    `wmap_rel` and `wmap_phr` (K = 100), `score_wtd` = 0.2 recall_50 + 0.4 wmap_rel + 0.4 wmap_phr; `score_map` is the same from
    the unweighted means.

    Args:
        variants: "plain", "nms" or both.
        compat: reproduce the published behaviour, defects included.
    """

    selections = tuple(f"{task}_{k}" for task in (RELATION, PHRASE) for k in CUTS)

    def __init__(
        self,
        truth: GroundTruth,
        vocabulary: Vocabulary,
        *,
        variants: Sequence[str] = (protocols.PLAIN, protocols.NMS),
        compat: bool = False,
    ) -> None:
        super().__init__(truth, vocabulary)
        truth.check_classes(len(vocabulary.objects), len(vocabulary.verbs))
        self.variants, self.compat = tuple(variants), compat
        self._truth_keys = self._keys(truth.labels[truth.subject], truth.labels[truth.object], truth.relations[:, 2])

    def select(self, batch: PredictionBatch) -> dict[str, Cells]:
        cells = valid_cells(batch, None)
        chosen: dict[str, Cells] = {}
        boxes = columns_of(batch.sub_boxes), columns_of(batch.obj_boxes)
        pair_crowded, phrase_crowded = crowded_pairs(*boxes), crowded_boxes(union_boxes(*boxes))
        for k in CUTS:
            cells = top_cells(cells, k)
            chosen[f"{RELATION}_{k}"] = chosen[f"{PHRASE}_{k}"] = cells
            if protocols.NMS not in self.variants:
                continue
            image = owners_of(cells.offsets)
            row = batch.offsets[:-1][image] + cells.pair
            keys = self._keys(batch.sub_labels[row], batch.obj_labels[row], cells.verb)
            groups = image * self._num_keys + keys
            order = np.arange(len(row))
            keep = settle(conflicting_pairs(groups, by_row(pair_crowded, row)), cells.score, order)
            kept = np.flatnonzero(keep)
            conflicts = conflicting_pairs(groups[kept], by_row(phrase_crowded, row[kept]))
            phrases = np.zeros(len(row), bool)
            phrases[kept[settle(conflicts, cells.score[kept], -order[kept])]] = True
            chosen[f"{RELATION}_{k}"] = replace(cells, survives=keep)
            chosen[f"{PHRASE}_{k}"] = replace(cells, survives=phrases)
        return chosen

    def compute(self) -> list[ProtocolResult]:
        detections = self.gathered()
        boxes = columns_of(detections.sub_boxes), columns_of(detections.obj_boxes)
        return [self._score(variant, detections, boxes) for variant in self.variants]

    def _score(self, variant: str, detections: Detections, boxes: Boxes) -> ProtocolResult:
        suppressed = variant == protocols.NMS
        protocol = protocols.OI_TRIPLET_COMPAT if self.compat else protocols.OI_TRIPLET
        tables, matches = {}, {}
        for k in CUTS:
            for task in (RELATION, PHRASE):
                name = f"{task}_{k}"
                tables[name], matches[name] = self._table(task, k, suppressed, detections, boxes)
        figures = self._figures({task: (table.ranks, table.ap) for task, table in tables.items()})
        result = ProtocolResult(protocol, variant, figures, tables)
        if result.name != self.resampled:
            return result
        found = {task: matched() for task, matched in matches.items()}

        def figures_of_draw(ranks: Ranks) -> dict[str, float]:
            return self._figures({task: (own, interpolated_ap(own)) for task, own in ranks.items()})

        return replace(result, resampling=Resampling(len(self.truth), found, figures_of_draw))

    def _figures(self, classes: Mapping[str, tuple[ClassRanks, npt.NDArray[np.float64]]]) -> dict[str, float]:
        """Return the figures of the ranks and average precisions of each task's classes, of those with annotated relations."""
        figures: dict[str, float] = {}
        for name, (ranks, ap) in classes.items():
            positives = ranks.positives
            counted = positives.sum()
            if self.compat and name.startswith(PHRASE):
                counted = positives[ranks.detections > 0].sum()
            figures[f"map_{name}"] = mean(ap[positives > 0])
            figures[f"wmap_{name}"] = ratio(np.sum(ap * positives), positives.sum())
            figures[f"recall_{name}"] = ratio(ranks.right.sum(), counted)
            figures[f"mean_recall_{name}"] = mean(ranks.recall[positives > 0])
        figures |= {"recall_50": figures["recall_rel_50"]}
        figures |= {f"wmap_{task}": figures[f"wmap_{task}_100"] for task in (RELATION, PHRASE)}
        for name, kind in (("score_wtd", "wmap"), ("score_map", "map")):
            parts = (0.4 * figures[f"{kind}_{task}_100"] for task in (RELATION, PHRASE))
            figures[name] = 0.2 * figures["recall_50"] + sum(parts)
        return figures

    def _table(
        self, task: str, k: int, suppressed: bool, detections: Detections, boxes: Boxes
    ) -> tuple[ClassTable, Callable[[], ImageMatches]]:
        """Return the results by class of a task, and a function that gives their matches by image."""
        truth = self.truth
        # A second pass of suppression, that of the phrases, turns ties round once more.
        last_first = suppressed and task == RELATION
        cells = FlatCells.of(detections, detections.cells[f"{task}_{k}"], suppressed, last_first)
        keys = self._keys(detections.sub_labels[cells.row], detections.obj_labels[cells.row], cells.verb)
        classes, truth_index = np.unique(self._truth_keys, return_inverse=True)
        position = np.minimum(np.searchsorted(classes, keys), max(0, len(classes) - 1))
        index = np.where(classes[position] == keys, position, -1) if len(classes) else np.full(len(keys), -1)
        find = near_pairs if task == RELATION else near_phrases
        near = find(cells, index, truth, truth_index, boxes, truth.columns, strict_iou)
        best = best_relations(len(keys), *near)
        if self.compat and task == PHRASE and suppressed:
            top = FlatCells.of(detections, detections.cells[f"{task}_{k}"], suppressed=False, last_first=False)
            best, place = shifted_matches(
                best, self._groups(detections, cells), cells, self._groups(detections, top), top
            )
            cells = replace(cells, order=place)
        if self.compat and task == RELATION:
            index = np.where((np.diff(truth.box_offsets) == 0)[cells.image], -1, index)
        best = np.where(index >= 0, best, NO_MATCH)
        right = credit(best, cells.score, cells.order)
        ranks = rank_by_class(index, cells.score, right, cells.order, np.bincount(truth_index, minlength=len(classes)))
        names = [self._class_name(int(key)) for key in classes]
        found = index, cells.score, right, cells.order, cells.image
        matches = partial(ImageMatches.of, *found, truth_index, truth.image, len(classes))
        return ClassTable(names, classes, ranks, interpolated_ap(ranks)), matches

    @property
    def _num_keys(self) -> np.int64:
        labels = len(self.vocabulary.objects) + 1
        return np.int64(labels * labels * len(self.vocabulary.verbs))

    def _keys(
        self, subject: npt.NDArray[Any], target: npt.NDArray[Any], verb: npt.NDArray[Any]
    ) -> npt.NDArray[np.int64]:
        return triplet_keys(self.vocabulary, subject, target, verb)

    def _groups(self, detections: Detections, cells: FlatCells) -> npt.NDArray[np.int64]:
        """One number for each image and triplet class."""
        keys = self._keys(detections.sub_labels[cells.row], detections.obj_labels[cells.row], cells.verb)
        return cells.image * self._num_keys + keys

    def _class_name(self, key: int) -> tuple[str, ...]:
        pair, verb = divmod(key, len(self.vocabulary.verbs))
        subject, target = divmod(pair, len(self.vocabulary.objects) + 1)
        return self.vocabulary.objects[subject], self.vocabulary.verbs[verb], self.vocabulary.objects[target]


def triplet_keys(
    vocabulary: Vocabulary, subject: npt.NDArray[Any], target: npt.NDArray[Any], verb: npt.NDArray[Any]
) -> npt.NDArray[np.int64]:
    """One number for each triplet class."""
    labels = len(vocabulary.objects) + 1
    keys: npt.NDArray[np.int64] = (subject.astype(np.int64) * labels + target) * len(vocabulary.verbs) + verb
    return keys
