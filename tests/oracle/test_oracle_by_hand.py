"""The parts of the oracle without golden figures, on cases small enough to work out on paper."""

import math
from typing import Any

import numpy as np
import pytest

from .hico_det import drop_non_person_queries, evaluate_hico
from .open_images import evaluate_oi_predicate, evaluate_oi_triplet
from .overlap import plain_iou, strict_iou
from .precision import MATLAB_RECALLS, PUBLISHED_RECALLS, all_point_ap, eleven_point_ap
from .test_oracle_golden import images_of, load, without
from .v_coco import evaluate_vcoco
from .v_coco_official import evaluate_vcoco_official

PERSON, BALL = 0, 1
A, B, C = (0, 0, 99, 99), (200, 0, 299, 99), (0, 200, 99, 299)  # three boxes of 100 x 100 pixels, far apart


def box(*corners: float) -> np.ndarray:
    return np.array(corners, dtype=np.float32)


def prediction(*pairs: tuple) -> dict:
    """pairs: (subject box, object box, subject label, object label, scores of the verbs)"""
    count = len(pairs)
    return {
        "boxes": np.array([p[0] for p in pairs] + [p[1] for p in pairs], dtype=np.float32).reshape(-1, 4),
        "labels": np.array([p[2] for p in pairs] + [p[3] for p in pairs], dtype=np.int64),
        "sub_ids": np.arange(count),
        "obj_ids": np.arange(count, 2 * count),
        "verb_scores": np.array([p[4] for p in pairs], dtype=np.float32).reshape(count, 2),
    }


def truth(boxes: list, labels: list, relations: list, key: str = "hois", image: int = 0) -> dict:
    return {
        "id": image,
        "boxes": np.array(boxes, dtype=np.float32).reshape(-1, 4),
        "labels": np.array(labels, dtype=np.int64),
        key: np.array(relations, dtype=np.int64),
    }


def hico(predictions: list, truths: list, **options: Any) -> dict:
    settings: dict[str, Any] = {
        "validity": np.ones((2, 2)),
        "train_counts": {},
        "nms": False,
        "compat": False,
        "top_k": 1,
        **options,
    }
    return evaluate_hico(predictions, truths, **settings)


def test_only_the_strict_overlap_refuses_shared_edges_and_boxes_without_area() -> None:
    touching = box(0, 0, 10, 10), box(10, 0, 20, 10)
    assert plain_iou(*touching) == pytest.approx(11 / (121 + 121 - 11))
    assert strict_iou(*touching) == 0
    point = box(5, 5, 5, 5)
    assert plain_iou(point, point) == 1
    assert strict_iou(point, point) == 0
    assert plain_iou(box(0, 0, 1, 1), box(5, 5, 6, 6)) == 0


def test_a_recall_of_exactly_three_tenths_loses_its_point() -> None:
    three_of_ten = [(1.0, True)] * 3
    assert eleven_point_ap(three_of_ten, 10, PUBLISHED_RECALLS) == pytest.approx(3 / 11)
    six_of_ten = [(1.0, True)] * 6
    assert eleven_point_ap(six_of_ten, 10, PUBLISHED_RECALLS) == pytest.approx(6 / 11)
    assert eleven_point_ap(six_of_ten, 10, MATLAB_RECALLS) == pytest.approx(7 / 11)


def test_all_point_ap_is_the_area_under_the_envelope() -> None:
    assert all_point_ap([(0.5, 1.0), (0.5, 0.5), (1.0, 2 / 3)]) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert all_point_ap([]) == 0


# ------------------------------------------------------------------------------------------------------------ HICO-DET


def hico_with_an_empty_image() -> tuple[list, list]:
    """A wrong prediction, scored best, on an image without boxes; then a right one."""
    predictions = [prediction((A, B, PERSON, BALL, (0.9, 0))), prediction((A, B, PERSON, BALL, (0.8, 0)))]
    return predictions, [truth([], [], [], image=7), truth([A, B], [PERSON, BALL], [(0, 1, 0)], image=8)]


def test_published_hico_ignores_images_without_boxes_and_the_repaired_one_does_not() -> None:
    images = hico_with_an_empty_image()
    assert hico(*images, compat=True)["metrics"]["mAP"] == pytest.approx(1)
    repaired = hico(*images, compat=False)
    assert repaired["per_class"][(PERSON, BALL, 0)] == {
        "gts": 1, "n": 2, "tp": 1, "ap": pytest.approx(0.5), "recall": 1
    }  # fmt: skip


def test_matlab_counts_images_without_boxes_and_classes_without_ground_truth() -> None:
    result = hico(*hico_with_an_empty_image(), compat=True, protocol="matlab", class_list=[(0, 1, 0), (0, 1, 1)])
    assert result["metrics"]["mAP"] == pytest.approx(0.25)
    by_validity = hico(*hico_with_an_empty_image(), protocol="matlab", validity=np.array([[0, 1], [0, 0]]))
    assert list(by_validity["per_class"]) == [(PERSON, BALL, 0)]
    with pytest.raises(ValueError, match="protocol is 'official'"):
        hico(*hico_with_an_empty_image(), protocol="official")


def test_known_object_keeps_detections_of_images_with_the_object() -> None:
    images = hico_with_an_empty_image()
    assert hico(*images, known_object_images={BALL: {8}})["metrics"]["mAP"] == pytest.approx(1)
    assert hico(*images, known_object_images={BALL: {7, 8}})["metrics"]["mAP"] == pytest.approx(0.5)
    lost = hico(*images, known_object_images={BALL: {7}})["per_class"][(PERSON, BALL, 0)]
    assert (lost["gts"], lost["n"], lost["tp"]) == (1, 1, 0)


def test_only_matlab_matches_a_box_without_area() -> None:
    point = (5, 5, 5, 5)
    images = [prediction((A, point, PERSON, BALL, (1, 0)))], [truth([A, point], [PERSON, BALL], [(0, 1, 0)])]
    assert hico(*images)["metrics"]["mAP"] == 0
    assert hico(*images, protocol="matlab")["per_class"][(PERSON, BALL, 0)]["ap"] == pytest.approx(1)


def test_matlab_moves_detections_to_a_ground_truth_that_counts_from_one() -> None:
    narrow, moved = (10, 10, 10, 40), (11, 11, 11, 41)
    images = [prediction((A, narrow, PERSON, BALL, (1, 0)))], [truth([A, moved], [PERSON, BALL], [(0, 1, 0)])]
    key = (PERSON, BALL, 0)
    assert hico(*images, protocol="matlab")["per_class"][key]["tp"] == 0
    assert hico(*images, protocol="matlab", one_based_ground_truth=True)["per_class"][key]["tp"] == 1


def test_there_is_no_fallback_to_a_second_ground_truth() -> None:
    near = (0, 0, 99, 89)  # overlaps A by 0.9
    truths = [truth([A, near, B], [PERSON, PERSON, BALL], [(0, 2, 0), (1, 2, 0)])]
    twice = [prediction((A, B, PERSON, BALL, (0.9, 0)), (A, B, PERSON, BALL, (0.8, 0)))]
    row = hico(twice, truths, top_k=2, validity=np.array([[1, 1], [0, 0]]))["per_class"][(PERSON, BALL, 0)]
    assert (row["gts"], row["n"], row["tp"]) == (2, 2, 1)


def test_equal_ground_truth_rows_share_a_claim_and_count_twice() -> None:
    truths = [truth([A, B], [PERSON, BALL], [(0, 1, 0), (0, 1, 0)])]
    row = hico([prediction((A, B, PERSON, BALL, (0.9, 0)))], truths)["per_class"][(PERSON, BALL, 0)]
    assert (row["gts"], row["tp"], row["recall"]) == (2, 1, 0.5)


def test_rare_and_non_rare_follow_the_training_counts() -> None:
    truths = [truth([A, B], [PERSON, BALL], [(0, 1, 0), (0, 1, 1), (1, 0, 0)])]
    predictions = [prediction((A, B, PERSON, BALL, (0.9, 0)))]
    counts = {(0, 1, 0): 9, (0, 1, 1): 10}
    metrics = hico(predictions, truths, train_counts=counts)["metrics"]
    assert metrics["mAP"] == pytest.approx(1 / 3)
    assert (metrics["mAP rare"], metrics["mAP non-rare"]) == (pytest.approx(1), 0)
    assert math.isnan(hico(predictions, truths)["metrics"]["mAP rare"])


def test_suppression_keeps_the_later_of_equal_scores() -> None:
    """Twice the same pair at one score, the second a little off: the one that survives decides the overlap."""
    off = (0, 0, 99, 44)  # overlaps A by 0.45, too little to be right
    truths = [truth([A, B], [PERSON, BALL], [(0, 1, 0)])]
    close = (0, 0, 99, 59)  # overlaps A by 0.6 and `off` by 0.75
    pairs = [(close, B, PERSON, BALL, (0.5, 0)), (off, B, PERSON, BALL, (0.5, 0))]
    options = {"top_k": 2, "nms": True, "validity": np.array([[1, 1], [0, 0]])}
    key = (PERSON, BALL, 0)
    last_wrong = hico([prediction(*pairs)], truths, **options)["per_class"][key]
    last_right = hico([prediction(*reversed(pairs))], truths, **options)["per_class"][key]
    assert (last_wrong["n"], last_wrong["tp"]) == (1, 0)
    assert (last_right["n"], last_right["tp"]) == (1, 1)


def test_queries_without_a_person_are_dropped_before_anything_else() -> None:
    kept = drop_non_person_queries(
        prediction((A, B, BALL, BALL, (0.9, 0.9)), (A, C, PERSON, BALL, (0.1, 0.2)), (A, C, BALL, BALL, (0.9, 0.9)))
    )
    assert kept["sub_ids"].tolist() == [1]
    assert kept["obj_ids"].tolist() == [4]
    assert kept["verb_scores"].tolist() == pytest.approx(np.array([[0.1, 0.2]], dtype=np.float32))


# -------------------------------------------------------------------------------------------------------------- V-COCO


def test_vcoco_scores_the_image_on_which_the_published_evaluator_raises() -> None:
    case, _ = load("vcoco_edge50")
    predictions, truths = images_of(case, "hois")
    kept = without(predictions, truths, lambda p, g: len(g["boxes"]) and not len(p["sub_ids"]))
    dropped = len(truths) - len(kept[1])
    assert dropped == 1
    table = evaluate_vcoco(predictions, truths, case["correct_mat"])["per_class"]
    without_it = evaluate_vcoco(*kept, case["correct_mat"])["per_class"]
    more = sum(row["gts"] for row in table.values()) - sum(row["gts"] for row in without_it.values())
    assert more == sum(len(g["hois"]) for g in truths) - sum(len(g["hois"]) for g in kept[1]) > 0
    assert sum(row["n"] for row in table.values()) == sum(row["n"] for row in without_it.values())


def test_vcoco_meets_a_missing_object_by_the_subject_alone() -> None:
    truths = [truth([A], [PERSON], [(0, -1, 1)])]
    for label in (BALL, 2):  # 2: one past the objects, the "missing object"
        result = evaluate_vcoco([prediction((A, C, PERSON, label, (0, 1)))], truths, np.ones((2, 2)), 1, ("a", "b"))
        assert result["metrics"] == {
            "AP_b": pytest.approx(1),
            "mAP_all": pytest.approx(1),
            "mAP_thesis": pytest.approx(0.5),
        }


def official(detections: list, annotations: list, labels: list, objects: list) -> dict:
    """One action with one role besides `point`, which the figures without point need."""
    images = [{"id": 1, "width": 400, "height": 400}, {"id": 2, "width": 400, "height": 400}]
    persons = [annotation["id"] for annotation in annotations if annotation["category_id"] == 1][: len(labels)]
    action = {"ann_id": persons, "label": labels, "role_object_id": persons + objects}
    nobody: dict[str, list] = {"ann_id": [], "label": [], "role_object_id": []}
    actions = [
        {"action_name": "kick", "role_name": ["agent", "obj"], **action},
        {"action_name": "point", "role_name": ["agent", "instr"], **nobody},
    ]
    return evaluate_vcoco_official(detections, images, annotations, actions)["per_class"]


def annotation(number: int, category: int, x: float, image: int = 1) -> dict:
    return {"id": number, "image_id": image, "category_id": category, "bbox": [x, 0, 100, 100], "area": 10000.0}


def kick(score: float, person: tuple, object_: tuple, image: int = 1) -> dict:
    role = np.array([*object_, score], dtype=np.float64)
    return {"image_id": image, "person_box": np.array(person, float), "kick_agent": score, "kick_obj": role}


NOTHING = (math.nan,) * 4


@pytest.mark.parametrize(
    ("role_object", "predicted", "right_in"),
    [
        (20, B, (1, 2)),  # a role box, met
        (20, C, ()),  # missed
        (20, NOTHING, ()),  # left out
        (0, NOTHING, (1, 2)),  # no role box, none predicted
        (0, (0, 0, 0, 0), (1, 2)),
        (0, B, (2,)),  # no role box, one predicted
        (99, B, (2,)),  # the role box is not among the usable annotations
    ],
)
def test_role_scenarios(role_object: int, predicted: tuple, right_in: tuple) -> None:
    tables = official([kick(0.9, A, predicted)], [annotation(10, 1, 0), annotation(20, 3, 200)], [1], [role_object])
    for scenario in (1, 2):
        assert tables[f"role_{scenario}"]["kick_obj"]["tp"] == (scenario in right_in)
    assert tables["agent"]["kick"]["ap"] == pytest.approx(1)


def test_official_skips_detections_on_unlabelled_persons_and_counts_those_where_nobody_is() -> None:
    annotations = [annotation(10, 1, 0), annotation(11, 1, 200)]  # the second has no V-COCO labels
    detections = [kick(0.9, B, NOTHING), kick(0.8, A, NOTHING, image=2), kick(0.7, A, NOTHING)]
    row = official(detections, annotations, [1], [0])["agent"]["kick"]
    assert (row["gts"], row["n"], row["tp"], row["ap"]) == (1, 2, 1, pytest.approx(0.5))


def test_official_scores_an_action_without_detections_and_one_without_positives() -> None:
    tables = official([], [annotation(10, 1, 0)], [1], [0])
    assert tables["agent"]["kick"]["ap"] == 0
    assert math.isnan(tables["agent"]["point"]["ap"])


def test_official_drops_boxes_that_leave_the_image() -> None:
    outside = {**annotation(10, 1, 0), "bbox": [500, 0, 100, 100]}
    assert official([kick(0.9, A, NOTHING)], [outside], [1], [0])["agent"]["kick"]["gts"] == 0


# --------------------------------------------------------------------------------------------------------- Open Images


def test_repaired_open_images_gives_the_figure_of_the_description() -> None:
    """The description measured the repair of the phrase defect on this case: 0.817 becomes 0.912."""
    case, _ = load("oi_edge50")
    images = without(*images_of(case, "rels"), lambda p, g: len(g["boxes"]) and not len(g["rels"]))
    metrics = evaluate_oi_triplet(*images, nms=True, compat=False)["metrics"]
    assert round(metrics["wmAP@100 (PhrD)"], 3) == 0.912


def test_open_images_files_false_positives_where_the_published_evaluator_raises() -> None:
    images = (
        [prediction((A, B, PERSON, BALL, (0.9, 0))), prediction((A, B, PERSON, BALL, (0.8, 0)))],
        [truth([A, B], [PERSON, BALL], [], "rels"), truth([A, B], [PERSON, BALL], [(0, 1, 0)], "rels")],
    )
    metrics = evaluate_oi_triplet(*images, nms=True, compat=True, top_ks=(1,))["metrics"]
    assert metrics["mAP@1 (RelD)"] == metrics["mAP@1 (PhrD)"] == pytest.approx(0.5)
    assert not any(name.startswith("score_wtd") for name in metrics)


def test_published_phrases_credit_each_other() -> None:
    """Two classes by turns: the suppression groups them (0.9 and 0.5 of verb 0, then 0.8 of verb 1), so that sorting
    moves verb 1 to the second place, where it gets the match of the 0.5 phrase: none."""
    truths = [truth([A, B], [PERSON, BALL], [(0, 1, 0), (0, 1, 1)], "rels")]
    pairs = prediction((A, B, PERSON, BALL, (0.9, 0.8)), (B, C, PERSON, BALL, (0.5, 0)))
    published = evaluate_oi_triplet([pairs], truths, nms=True, compat=True, top_ks=(3,))["per_class"]["phr@3"]
    repaired = evaluate_oi_triplet([pairs], truths, nms=True, compat=False, top_ks=(3,))["per_class"]["phr@3"]
    assert {key: row["tp"] for key, row in published.items()} == {(0, 1, 0): 2, (0, 1, 1): 0}
    assert {key: row["tp"] for key, row in repaired.items()} == {(0, 1, 0): 1, (0, 1, 1): 1}


def test_published_phrase_recall_leaves_out_classes_without_prediction() -> None:
    truths = [truth([A, B], [PERSON, BALL], [(0, 1, 0), (1, 0, 0)], "rels")]
    images = [prediction((A, B, PERSON, BALL, (0.9, 0)))], truths
    recall = {
        (compat, name): evaluate_oi_triplet(*images, nms=True, compat=compat)["metrics"][f"max recall@50 ({name})"]
        for compat in (True, False)
        for name in ("RelD", "PhrD")
    }
    assert recall == {(True, "RelD"): 0.5, (True, "PhrD"): 1, (False, "RelD"): 0.5, (False, "PhrD"): 0.5}


def test_no_prediction_at_all_is_scored() -> None:
    images = [prediction()], [truth([A, B], [PERSON, BALL], [(0, 1, 0)], "rels")]
    repaired = evaluate_oi_triplet(*images, nms=True, compat=False)["metrics"]
    assert set(repaired.values()) == {0}
    assert math.isnan(evaluate_oi_triplet(*images, nms=True, compat=True)["metrics"]["max recall@50 (PhrD)"])
    assert evaluate_oi_predicate(*images)["metrics"]["R@50"] == 0


def test_predicate_protocol_by_hand() -> None:
    """Verb 0: two ground truths, found first and third of three (the second has a wrong object label), so
    AP = 1/2 + 1/2 x 2/3 = 5/6. Verb 1: one ground truth, never predicted. Weights 2/3 and 1/3."""
    truths = [
        truth([A, B], [PERSON, BALL], [(0, 1, 0), (0, 1, 1)], "rels"),
        truth([A, C], [PERSON, BALL], [(0, 1, 0)], "rels"),
        truth([], [], [], "rels"),
    ]
    predictions = [
        prediction((A, B, PERSON, BALL, (0.9, 0)), (A, B, PERSON, PERSON, (0.8, 0))),
        prediction((A, C, PERSON, BALL, (0.7, 0))),
        prediction(),
    ]
    result = evaluate_oi_predicate(predictions, truths)
    ap = 5 / 6
    expected = {
        "R@50": 2 / 3, "R@100": 2 / 3, "R@50 (per image)": 0.5, "R@100 (per image)": 0.5, "mR@50": 0.5, "mR@100": 0.5,
        "mAP_rel": ap / 2, "mAP_phr": ap / 2, "wmAP_rel": ap * 2 / 3, "wmAP_phr": ap * 2 / 3,
        "score_wtd (mAP)": 0.2 * 2 / 3 + 0.8 * ap / 2, "score_wtd": 0.2 * 2 / 3 + 0.8 * ap * 2 / 3,
    }  # fmt: skip
    assert result["metrics"] == pytest.approx(expected)
    assert {verb: row["n"] for verb, row in result["per_class"].items()} == {0: 3, 1: 0}


def test_predicate_recall_takes_one_half_and_its_precision_wants_more() -> None:
    half = (0, 0, 99, 49)  # exactly half of A
    images = [prediction((half, B, PERSON, BALL, (1, 0)))], [truth([A, B], [PERSON, BALL], [(0, 1, 0)], "rels")]
    metrics = evaluate_oi_predicate(*images)["metrics"]
    assert metrics["R@50"] == 1
    assert metrics["wmAP_rel"] == 0
    assert metrics["wmAP_phr"] == pytest.approx(1)  # the union boxes agree


def test_predicate_protocol_keeps_two_predicates_a_pair() -> None:
    scores = np.array([[0.2, 0.9, 0.5, 1e-6], [1e-6, 1e-6, 0.1, 1e-6]], dtype=np.float32)
    pairs = {**prediction((A, B, PERSON, BALL, (0, 0)), (A, C, PERSON, BALL, (0, 0))), "verb_scores": scores}
    result = evaluate_oi_predicate([pairs], [truth([A, B], [PERSON, BALL], [(0, 1, 0)], "rels")])
    assert [row["n"] for row in result["per_class"].values()] == [0, 1, 2, 0]
    assert result["metrics"]["R@50"] == 0
