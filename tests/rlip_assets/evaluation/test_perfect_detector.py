"""A perfect detector on the real annotations scores what the protocols allow, and every relation that it misses has a known cause."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from rlip_assets.evaluation.core.ground_truth import GroundTruth
from rlip_assets.evaluation.core.protocols import HICO_MATLAB, HICO_RLIPV2
from rlip_assets.evaluation.core.ragged import owners_of
from rlip_assets.evaluation.core.results import ProtocolResult
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.annotations import read_annotations
from rlip_assets.evaluation.hico_det.evaluator import HicoDetEvaluator
from rlip_assets.evaluation.suites import suite
from rlip_assets.evaluation.v_coco.actions import actions_of_vocabulary
from rlip_assets.evaluation.v_coco.ground_truth import OfficialTruth, official_truth_of_pairs
from rlip_assets.evaluation.v_coco.official import OfficialDetections, VcocoOfficialEvaluator, evaluate_official
from tests.support.facts import REAL_ANNOTATIONS
from tests.support.perfect_detector import (
    TOP,
    annotated_twice,
    crowded,
    past_the_top,
    perfect_predictions,
    without_area,
)

HICO, V_COCO = (
    REAL_ANNOTATIONS / "hico_det" / "instances_test2015.json",
    REAL_ANNOTATIONS / "v_coco" / "instances_vcoco_test.json",
)


@cache
def hico() -> tuple[GroundTruth, Vocabulary]:
    return read_annotations(HICO)


def judged(protocol: str, shift: float) -> dict[str, ProtocolResult]:
    truth, vocabulary = hico()
    evaluator = HicoDetEvaluator(truth, vocabulary, only=(protocol,))
    evaluator.listed_only = True
    evaluator.update(perfect_predictions(truth, len(vocabulary.verbs), shift))
    return {result.variant: result for result in evaluator.compute()}


def by_class(rows: np.ndarray, result: ProtocolResult) -> np.ndarray:
    """Return how many of the marked relations each class of a result has."""
    truth, vocabulary = hico()
    keys = truth.labels[truth.object] * len(vocabulary.verbs) + truth.relations[:, 2]
    return np.array([(keys[rows] == key).sum() for key in result.tables[""].keys])


def missed(result: ProtocolResult) -> np.ndarray:
    """Relations that were not found, by class; none of the detections may be wrong."""
    ranks = result.tables[""].ranks
    np.testing.assert_array_equal(ranks.detections, ranks.right)
    return ranks.positives - ranks.right


@pytest.mark.real_annotations
def test_annotations_are_what_is_known_of_them() -> None:
    truth, vocabulary = hico()
    assert (len(truth), len(truth.relations), len(vocabulary.hois)) == (9658, 33405, 600)
    assert (len(vocabulary.objects), len(vocabulary.verbs), len(vocabulary.rare)) == (80, 117, 138)
    assert not annotated_twice(truth).any()
    assert not without_area(truth).any()


@pytest.mark.real_annotations
def test_rlipv2_misses_what_its_best_hundred_and_suppression_leave_out() -> None:
    """Full 99.86 without suppression (three images have more than 100 relations), 99.24 with it (neighbours of one class)."""
    truth, _ = hico()
    results = judged(HICO_RLIPV2, 0)
    cut = past_the_top(truth)
    plain, nms = missed(results["plain"]), missed(results["nms"])
    assert plain.sum() == cut.sum() - TOP * len(np.unique(truth.image[cut])) > 0
    assert (plain <= by_class(cut, results["plain"])).all()
    assert (nms >= plain).all()
    assert (nms - plain <= by_class(crowded(truth), results["nms"])).all()
    for result, lost in ((results["plain"], plain), (results["nms"], nms)):
        np.testing.assert_allclose(result.tables[""].ap[lost == 0], 1)
    assert results["plain"].figures["full"] == pytest.approx(0.998636, abs=1e-6)
    assert results["nms"].figures["full"] == pytest.approx(0.992424, abs=1e-6)


@pytest.mark.real_annotations
def test_matlab_misses_nothing_but_suppressed_neighbours() -> None:
    truth, _ = hico()
    results = judged(HICO_MATLAB, -truth.origin)
    assert results["plain"].figures["full"] == pytest.approx(1)
    assert missed(results["plain"]).sum() == 0
    nms = missed(results["nms"])
    assert nms.sum() > 0
    assert (nms <= by_class(crowded(truth), results["nms"])).all()


@pytest.mark.real_annotations
def test_v_coco_pairs_are_found_entirely() -> None:
    """By the training-time evaluator."""
    truth, vocabulary = read_annotations(V_COCO)
    (evaluator,) = suite(truth, vocabulary)
    evaluator.listed_only = True
    evaluator.update(perfect_predictions(truth, len(vocabulary.verbs)))
    (result,) = evaluator.compute()
    assert len(truth) == 4946
    assert result.name == "v_coco/training"
    assert result.figures["map_all"] == pytest.approx(1)
    np.testing.assert_array_equal(result.tables[""].ranks.right, result.tables[""].ranks.positives)


@cache
def v_coco_with_made_instances() -> tuple[GroundTruth, Vocabulary, OfficialTruth]:
    """The official evaluation needs COCO's instances, which are not here. The boxes of the real pairs stand for them: every person of a
    pair is one, and persons without a pair are missing."""
    truth, vocabulary = read_annotations(V_COCO)
    return truth, vocabulary, official_truth_of_pairs(truth, actions_of_vocabulary(vocabulary), vocabulary.person)


@pytest.mark.real_annotations
def test_official_v_coco_on_made_instances_is_found_entirely_person_by_person() -> None:
    """One record a person, as the official file has it: all roles at once, an empty box where a role is not filled."""
    _, _, official = v_coco_with_made_instances()
    does = (official.labels == 1).astype(np.float64)
    roles = official.actions.role_verbs
    records = OfficialDetections(
        image=owners_of(official.person_offsets),
        persons=official.persons,
        role_boxes=np.stack([official.role_boxes[:, action, place] for action, place, _ in roles], axis=1),
        agent_scores=does,
        role_scores=np.stack([does[:, action] for action, _, _ in roles], axis=1),
    )
    (result,) = evaluate_official(official, records)
    assert {name: pytest.approx(1) for name in result.figures} == dict(result.figures)


@pytest.mark.real_annotations
def test_official_v_coco_on_made_instances_misses_what_pairs_cannot_say() -> None:
    """One pair of a person and an object has one object box for all roles. So an action with two roles is detected twice for a person who
    fills both (the second is wrong), and a role that is not filled is not left empty; actions with one role reach 100."""
    truth, vocabulary, official = v_coco_with_made_instances()
    evaluator = VcocoOfficialEvaluator(official, vocabulary)
    evaluator.update(perfect_predictions(truth, len(vocabulary.verbs)))
    (result,) = evaluator.compute()
    actions = official.actions
    two_roles = {name for name, roles in zip(actions.names, actions.roles, strict=True) if len(roles) == 2}
    assert two_roles == {"hit", "eat", "cut"}
    for table in result.tables.values():
        below = {names[0] for names, ap in zip(table.names, table.ap, strict=True) if ap < 1 - 1e-12}
        assert below == two_roles
    found = result.tables["role_s1"].ranks
    for row, (action, place, _) in enumerate(actions.role_verbs):
        unfilled = (official.labels[:, action] == 1) & np.isnan(official.role_boxes[:, action, place, 0])
        assert found.positives[row] - found.right[row] == unfilled.sum()
    assert (result.tables["agent"].ranks.right == result.tables["agent"].ranks.positives).all()
    assert result.figures["role_ap_s1_24"] == pytest.approx(0.934290, abs=1e-6)
    assert result.figures["agent_ap"] == pytest.approx(0.960045, abs=1e-6)
