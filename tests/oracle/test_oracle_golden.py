"""The oracle against the figures that the published evaluators give (stable sorts), to 1e-12."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .alignment import alignment_uniformity
from .hico_det import evaluate_hico
from .open_images import evaluate_oi_triplet
from .v_coco import VERB_ROLES, evaluate_vcoco
from .v_coco_official import detection_of_pair, evaluate_vcoco_official

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "evaluation"
TOLERANCE = 1e-12

# action -> its roles, agent first (the 26 actions of V-COCO in their order)
ACTION_ROLES = {
    "hold": "obj", "stand": "", "sit": "instr", "ride": "instr", "walk": "", "look": "obj", "hit": "instr obj",
    "eat": "obj instr", "jump": "instr", "lay": "instr", "talk_on_phone": "instr", "carry": "obj", "throw": "obj",
    "catch": "obj", "cut": "instr obj", "run": "", "work_on_computer": "instr", "ski": "instr", "surf": "instr",
    "skateboard": "instr", "smile": "", "drink": "instr", "kick": "obj", "point": "instr", "read": "obj",
    "snowboard": "instr",
}  # fmt: skip


def load(case: str) -> tuple[dict[str, np.ndarray], Any]:
    with np.load(GOLDEN / f"{case}.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    return arrays, json.loads((GOLDEN / f"{case}.expected.json").read_text())


def images_of(case: dict[str, np.ndarray], relation_key: str) -> tuple[list[dict], list[dict]]:
    def rows(name: str, offsets: str, image: int) -> np.ndarray:
        return case[name][case[offsets][image] : case[offsets][image + 1]]

    predictions, ground_truths = [], []
    for image in range(int(case["n_images"])):
        predictions.append(
            {
                "boxes": rows("pred_boxes", "pred_off", image),
                "labels": rows("pred_labels", "pred_off", image),
                "sub_ids": rows("q_sub", "q_off", image),
                "obj_ids": rows("q_obj", "q_off", image),
                "verb_scores": rows("verb_scores", "q_off", image),
            }
        )
        ground_truths.append(
            {
                "id": image,
                "boxes": rows("gt_boxes", "gt_off", image),
                "labels": rows("gt_labels", "gt_off", image),
                relation_key: rows("gt_rels", "rel_off", image),
            }
        )
    return predictions, ground_truths


def without(predictions: list[dict], ground_truths: list[dict], crashing: Any) -> tuple[list[dict], list[dict]]:
    pairs = [(p, g) for p, g in zip(predictions, ground_truths, strict=True) if not crashing(p, g)]
    return [p for p, _ in pairs], [g for _, g in pairs]


def stable_runs(case: str) -> list[dict]:
    return [run for run in load(case)[1] if run["stable"] and "error" not in run]


def assert_same_metrics(found: dict[str, float], expected: dict[str, float]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=0, abs=TOLERANCE), name


def assert_same_classes(found: dict, expected: list[dict]) -> None:
    assert len(found) == len(expected)
    for row in expected:
        key = tuple(row["key"]) if isinstance(row["key"], list) else row["key"]
        assert {name: found[key][name] for name in ("gts", "n", "tp")} == {
            name: row[name] for name in ("gts", "n", "tp")
        }
        assert found[key]["ap"] == pytest.approx(row["ap"], rel=0, abs=TOLERANCE), key


@pytest.mark.parametrize("nms", [False, True])
@pytest.mark.parametrize("name", ["hico_edge50", "hico_ties50"])
def test_hico_agrees_with_the_published_evaluator(name: str, nms: bool) -> None:
    case, _ = load(name)
    train_counts = {
        tuple(triplet): int(count)
        for triplet, count in zip(case["train_triplets"].tolist(), case["train_counts"], strict=True)
    }
    result = evaluate_hico(*images_of(case, "hois"), case["correct_mat"], train_counts, nms=nms, compat=True)
    (expected,) = [run for run in stable_runs(name) if run["nms"] == nms]
    assert_same_metrics(result["metrics"], expected["metrics"])
    assert_same_classes(result["per_class"], expected["classes"])


def test_vcoco_agrees_with_the_published_evaluator() -> None:
    case, _ = load("vcoco_edge50")
    images = without(*images_of(case, "hois"), lambda p, g: len(g["boxes"]) and not len(p["sub_ids"]))
    (expected,) = stable_runs("vcoco_edge50")
    assert expected["crashing_images_dropped"]
    assert len(images[0]) == expected["images"]
    result = evaluate_vcoco(*images, case["correct_mat"])
    assert_same_metrics(result["metrics"], expected["metrics"])
    assert_same_classes(result["per_class"], expected["classes"])


@pytest.mark.parametrize("nms", [False, True])
def test_open_images_agrees_with_the_published_evaluator(nms: bool) -> None:
    case, _ = load("oi_edge50")
    images = without(*images_of(case, "rels"), lambda p, g: len(g["boxes"]) and not len(g["rels"]))
    (expected,) = [run for run in stable_runs("oi_edge50") if run["nms"] == nms]
    assert expected["crashing_images_dropped"]
    assert len(images[0]) == expected["images"]
    result = evaluate_oi_triplet(*images, nms=nms, compat=True)
    assert_same_metrics(result["metrics"], expected["metrics"])
    for part in ("rel@100", "phr@100", "rel@50", "phr@50"):
        assert_same_classes(result["per_class"][part], expected[f"classes_{part}"])


def official_inputs(case: dict[str, np.ndarray]) -> tuple[list[dict], list[dict], list[dict], list[dict]]:
    """(detections, images, COCO annotations, V-COCO actions) of the official golden case."""
    images = [
        {"id": int(image_id), "width": int(width), "height": int(height)}
        for image_id, (width, height) in zip(case["image_ids"], case["image_wh"], strict=True)
    ]
    annotations = [
        {
            "id": int(case["ann_id"][i]),
            "image_id": int(case["ann_image"][i]),
            "category_id": int(case["ann_cat"][i]),
            "bbox": case["ann_bbox"][i].tolist(),
            "area": float(case["ann_area"][i]),
            "iscrowd": int(case["ann_iscrowd"][i]),
        }
        for i in range(len(case["ann_id"]))
    ]
    image_of = dict(zip(case["ann_id"].tolist(), case["ann_image"].tolist(), strict=True))
    persons = case["person_ann"].tolist()
    actions = []
    for index, (name, roles) in enumerate(ACTION_ROLES.items()):
        role_names = ["agent", *roles.split()]
        flat = list(persons)
        for role in range(len(role_names) - 1):
            flat += case["act_role"][index, :, role].tolist()
        actions.append(
            {
                "action_name": name,
                "role_name": role_names,
                "image_id": [image_of[person] for person in persons],
                "ann_id": persons,
                "label": case["act_label"][index].tolist(),
                "role_object_id": flat,
            }
        )
    detections = [
        detection_of_pair(
            int(case["det_image"][i]),
            case["det_person"][i],
            case["det_object"][i],
            VERB_ROLES,
            case["det_score"][i].tolist(),
            actions,
        )
        for i in range(len(case["det_image"]))
    ]
    return detections, images, annotations, actions


def test_official_vcoco_agrees_with_the_published_evaluator() -> None:
    case, expected = load("vcoco_official_60")
    result = evaluate_vcoco_official(*official_inputs(case))
    stable = expected["stable"]
    for table, golden in (("agent", "agent_ap"), ("role_1", "role_ap_scenario_1"), ("role_2", "role_ap_scenario_2")):
        found = {name.replace("_obj", "-obj").replace("_instr", "-instr"): row["ap"]
                 for name, row in result["per_class"][table].items()}  # fmt: skip
        assert_same_metrics(found, stable[golden])
    means = {
        "AP_agent": stable["mean_agent"],
        "AP_role_1": stable["mean_role_s1"],
        "AP_role_2": stable["mean_role_s2"],
        "AP_role_1 without point": stable["mean_role_s1_no_point"],
        "AP_role_2 without point": stable["mean_role_s2_no_point"],
    }
    assert_same_metrics(result["metrics"], means)


def test_alignment_and_uniformity_agree_with_the_published_analysis() -> None:
    """The published analysis adds in single precision: 1e-6."""
    case, expected = load("align_uniform")
    classes = [case[f"class_{i}"] for i in range(len(case))]
    for power in (1, 2):
        metrics = alignment_uniformity(classes, t=power, alpha=power)["metrics"]
        assert metrics["uniformity"] == pytest.approx(expected[f"uniformity_t{power}"], rel=0, abs=1e-6)
        assert metrics["alignment"] == pytest.approx(expected[f"alignment_a{power}"], rel=0, abs=1e-6)
    with_single = alignment_uniformity([*classes, classes[0][:1]])
    assert math.isnan(with_single["per_class"][len(classes)]["alignment"])
    assert with_single["metrics"]["skipped classes"] == 1
