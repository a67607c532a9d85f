"""V-COCO by its official evaluation: agent AP, and role AP in scenarios 1 and 2.

Rules of the public `vsrl_eval.py` (S. Gupta), described here as they act:

* every detection is compared with the persons of its image; the one it overlaps most is its person, whoever that is;
* a detection whose person has no V-COCO labels is left out, even at no overlap;
* it is right if the person does the action, the overlap is at least 0.5, the role box agrees, and no better-scored detection took
  the person for this action (and role) before;
* a role box agrees at an overlap of at least 0.5. Where the person's role has no box, scenario 1 wants an empty prediction
  (all NaN or all 0), scenario 2 takes any;
* AP is the area under the precision envelope, with scores and recall rounded to float32.

Ties fall as that code lets them with stable sorts, each of which it reads backwards: within an image the detection listed last
takes the person; over the images the last image comes first, and within it the detection listed first.

Images without a person and actions without a detection, on which that code fails, are scored: their detections are wrong, their
AP is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core import protocols
from rlip_assets.evaluation.core.average_precision import ClassRanks, envelope_area, positive_ranks
from rlip_assets.evaluation.core.evaluator import Evaluator
from rlip_assets.evaluation.core.matching import NO_MATCH, THRESHOLD, credit
from rlip_assets.evaluation.core.overlaps import Columns, columns_of, plain_iou
from rlip_assets.evaluation.core.ragged import offsets_of, owners_of
from rlip_assets.evaluation.core.resampling import ImageMatches, InRankOrder, Ranks, Resampling, in_rank_order
from rlip_assets.evaluation.core.results import ClassTable, ProtocolResult, mean
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.predictions import PredictionBatch
from rlip_assets.evaluation.v_coco.actions import LEFT_OUT_ROLE
from rlip_assets.evaluation.v_coco.ground_truth import OfficialTruth
from rlip_assets.storage.errors import DataError

Floats = npt.NDArray[np.floating]


class Part(NamedTuple):
    """One class: number of detections, ranks of the right ones, number of persons to find; images and rightness by rank where asked for."""

    detections: int
    ranks: npt.NDArray[np.int64]
    positives: int
    by_rank: InRankOrder | None


AGENT, SCENARIO_1, SCENARIO_2 = "agent", "role_s1", "role_s2"


@dataclass(frozen=True)
class OfficialDetections:
    """D detections as the official evaluation sees them, images in the order of the annotations.

    Attributes:
        image: (D,) number of the image.
        persons: (D, 4) xyxy.
        role_boxes: (D, 4) one object box for all roles, or (D, roles, 4); NaN or 0 = no object.
        agent_scores: (D, A) by action; NaN = not detected.
        role_scores: (D, roles) by action and role, in the order of `Actions.role_verbs`; NaN = not detected.
    """

    image: npt.NDArray[np.int64]
    persons: Floats
    role_boxes: Floats
    agent_scores: Floats
    role_scores: Floats

    def boxes_of_role(self, role: int) -> Floats:
        """(D, 4) object boxes for one role."""
        return self.role_boxes if self.role_boxes.ndim == 2 else self.role_boxes[:, role]


class VcocoOfficialEvaluator(Evaluator[OfficialTruth, list[ProtocolResult]]):
    """The official V-COCO evaluation of a network's predictions, all query pairs of each image, without top-K or suppression.

    An action's agent score is the best of its roles' scores, at least 0; verbs that do not go with the object score 0 (where the
    vocabulary says so); the label "no object" stands for an empty role box.
    """

    selections = ()
    needs_all_scores = True

    def __init__(self, truth: OfficialTruth, vocabulary: Vocabulary) -> None:
        super().__init__(truth, vocabulary)
        if len(truth.actions.verbs) != len(vocabulary.verbs):
            counts = f"{len(truth.actions.verbs)} verbs, the classes {len(vocabulary.verbs)}"
            raise DataError(f"the V-COCO annotations know {counts}; use the classes.json of these annotations")

    def prepare(self, batch: PredictionBatch) -> PredictionBatch:
        """Scores of verbs that do not go with the object are set to 0, those of triplets that a list does not name to NaN."""
        scores = batch.scores
        if self.vocabulary.hois:
            scores = scores * self.vocabulary.valid.T[batch.obj_labels]
        if self.listed_only:
            scores = np.where(scores > 0, scores, np.float32("nan"))
        return replace(batch, scores=scores)

    def compute(self) -> list[ProtocolResult]:
        return evaluate_official(self.truth, self.detections(), resampled=self.resampled == protocols.VCOCO_OFFICIAL)

    def detections(self) -> OfficialDetections:
        """Return the gathered predictions as the official evaluation sees them."""
        detections, actions = self.gathered(), self.truth.actions
        scores = detections.scores.reshape(-1, len(actions.verbs))
        objects = detections.obj_boxes.astype(np.float64)
        objects[detections.obj_labels == len(self.vocabulary.objects)] = np.nan
        by_action = [scores[:, actions.verbs_of(action)] for action in range(len(actions.names))]
        return OfficialDetections(
            image=detections.image[owners_of(detections.offsets)].astype(np.int64),
            persons=detections.sub_boxes.astype(np.float64),
            role_boxes=objects,
            agent_scores=np.stack([agent_score(own) for own in by_action], axis=1),
            role_scores=scores[:, [verb for _, _, verb in actions.role_verbs]],
        )


def agent_score(scores: Floats) -> Floats:
    """(D, verbs of one action) to (D,): the only score, or the best of several, at least 0; NaN where all are."""
    return scores[:, 0] if scores.shape[1] == 1 else np.maximum(np.fmax.reduce(scores, axis=1), 0)


def evaluate_official(
    truth: OfficialTruth, detections: OfficialDetections, resampled: bool = False
) -> list[ProtocolResult]:
    """Score detections by the official rules.

    Figures: `agent_ap` over all actions; `role_ap_s1_25`, `role_ap_s2_25` over all roles and `..._24` without "point" (what
    papers quote; named so for the 25 roles of the official vocabulary, however many there are). Classes without annotated
    persons count 0.

    Args:
        resampled: add draws of the images to the result.
    """
    actions = truth.actions
    person, overlap = closest_persons(truth, detections)
    near = overlap >= THRESHOLD

    def labels_of(action: int) -> npt.NDArray[np.int8]:
        """(D,) whether each detection's person does the action; 0 in an image without persons."""
        own = np.zeros(len(person), np.int8)
        own[person >= 0] = truth.labels[person[person >= 0], action]
        return own

    positives = (truth.labels == 1).sum(axis=0)
    parts: dict[str, list[Part]] = {AGENT: [], SCENARIO_1: [], SCENARIO_2: []}
    for action in range(len(actions.names)):
        label, score = labels_of(action), detections.agent_scores[:, action]
        detected = (label >= 0) & ~np.isnan(score)
        taken = np.flatnonzero(near & (label == 1) & detected)
        parts[AGENT] += _ranked(score, detected, [taken], person, detections.image, positives[action], resampled)
    for role, (action, place, _) in enumerate(actions.role_verbs):
        label, score = labels_of(action), detections.role_scores[:, role]
        detected = (label >= 0) & ~np.isnan(score)
        taken = np.flatnonzero(near & (label == 1) & detected)
        agreeing = _agreeing(truth, detections, role, action, place, person, taken)
        first, second = _ranked(score, detected, agreeing, person, detections.image, positives[action], resampled)
        parts[SCENARIO_1].append(first)
        parts[SCENARIO_2].append(second)
    role_names = [(actions.names[action], actions.roles[action][place]) for action, place, _ in actions.role_verbs]
    tables = {
        AGENT: _table([(name,) for name in actions.names], parts[AGENT]),
        SCENARIO_1: _table(role_names, parts[SCENARIO_1]),
        SCENARIO_2: _table(role_names, parts[SCENARIO_2]),
    }
    without = np.array([name != LEFT_OUT_ROLE for name in role_names], bool)

    def figures_of_draw(ranks: Ranks) -> dict[str, float]:
        return _figures({task: _areas(own) for task, own in ranks.items()}, without)

    figures = _figures({task: table.ap for task, table in tables.items()}, without)
    resampling = None
    if resampled:
        of_role = [action for action, _, _ in actions.role_verbs]
        performed = {AGENT: range(len(actions.names)), SCENARIO_1: of_role, SCENARIO_2: of_role}
        matches = {task: _matches(truth, parts[task], performed[task]) for task in tables}
        resampling = Resampling(len(truth), matches, figures_of_draw)
    return [ProtocolResult(protocols.VCOCO_OFFICIAL, "", figures, tables, resampling)]


def _figures(ap: Mapping[str, npt.NDArray[np.float64]], without: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Return the figures of the average precisions of actions and roles; `without`: the roles that papers quote."""
    figures = {"agent_ap": mean(ap[AGENT])}
    for scenario in (SCENARIO_1, SCENARIO_2):
        short = scenario.removeprefix("role_")
        single = ap[scenario].astype(np.float32)  # that code keeps role APs, and their means, in float32
        average = single.mean() if len(single) else np.float32("nan")
        figures[f"role_ap_{short}_25"] = float(average)
        figures[f"role_ap_{short}_24"] = float(
            (len(single) * average - single[~without].sum()) / max(1, int(without.sum()))
        )
    return figures


def closest_persons(truth: OfficialTruth, detections: OfficialDetections) -> tuple[npt.NDArray[np.int64], Floats]:
    """For each detection the person of its image that it overlaps most (the first on ties; -1 in an image without persons)."""
    counts = np.diff(truth.person_offsets)[detections.image]
    first = truth.person_offsets[:-1][detections.image]
    person = np.where(counts > 0, first, NO_MATCH)
    best = np.full(len(person), -np.inf)
    boxes, persons = columns_of(detections.persons.astype(np.float64)), columns_of(truth.persons)
    for number in range(int(counts.max(initial=0))):
        rows = np.flatnonzero(counts > number)
        overlap = plain_iou(boxes.take(rows), persons.take(first[rows] + number))
        better = overlap > best[rows]
        best[rows[better]] = overlap[better]
        person[rows[better]] = first[rows[better]] + number
    return person, best


def _agreeing(
    truth: OfficialTruth,
    detections: OfficialDetections,
    role: int,
    action: int,
    place: int,
    person: npt.NDArray[np.int64],
    taken: npt.NDArray[np.int64],
) -> list[npt.NDArray[np.int64]]:
    """Those of the detections `taken` whose role box agrees, in scenario 1 and in scenario 2."""
    wanted = truth.role_boxes[person[taken], action, place]
    given = detections.boxes_of_role(role)[taken].astype(np.float64)
    annotated = ~np.isnan(wanted[:, 0])
    empty = np.isnan(given).all(axis=1) | (given == 0).all(axis=1)
    with np.errstate(invalid="ignore"):
        agrees = plain_iou(Columns(*wanted.T), Columns(*given.T)) >= THRESHOLD
    return [taken[np.where(annotated, agrees, empty)], taken[np.where(annotated, agrees, True)]]


def _ranked(
    score: Floats,
    counted: npt.NDArray[np.bool_],
    agreeing: list[npt.NDArray[np.int64]],
    person: npt.NDArray[np.int64],
    image: npt.NDArray[np.int64],
    positives: int,
    resampled: bool,
) -> list[Part]:
    """Credit and rank each list of agreeing detections among all that are counted."""
    rows = np.flatnonzero(counted)
    single = score[rows].astype(np.float32)
    order = np.arange(len(rows)) - image[rows] * np.int64(len(score))
    ranked = []
    for candidates in agreeing:
        right = np.zeros(len(score), bool)
        right[candidates[credit(person[candidates], score[candidates], -candidates)]] = True
        by_rank = in_rank_order(single, right[rows], order, image[rows]) if resampled else None
        ranked.append(Part(len(rows), positive_ranks(single, right[rows], order), positives, by_rank))
    return ranked


def _table(names: Sequence[tuple[str, ...]], parts: list[Part]) -> ClassTable:
    ranks = ClassRanks(
        np.array([part.detections for part in parts], np.int64),
        np.array([part.positives for part in parts], np.int64),
        offsets_of([len(part.ranks) for part in parts]),
        np.concatenate([np.zeros(0, np.int64), *(part.ranks for part in parts)]),
    )
    return ClassTable(names, np.arange(len(parts)), ranks, _areas(ranks))


def _areas(ranks: ClassRanks) -> npt.NDArray[np.float64]:
    """(C,) average precision: the area under the envelope, with recall in float32."""
    own = [(ranks.of_class(index), int(positives)) for index, positives in enumerate(ranks.positives)]
    return np.array([envelope_area(found, positives, np.float32) if len(found) else 0.0 for found, positives in own])


def _matches(truth: OfficialTruth, parts: Sequence[Part], performed: Sequence[int]) -> ImageMatches:
    """Return the matches of classes by image; `performed`: the action of each class."""
    persons, labels = np.nonzero(truth.labels[:, performed] == 1)
    return ImageMatches.of_classes(
        [part.by_rank for part in parts if part.by_rank is not None], labels, owners_of(truth.person_offsets)[persons]
    )
