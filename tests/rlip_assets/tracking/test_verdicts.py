"""Asset checks of a manifest: each passes on a good one and fails on a bad one, a missing figure included."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from rlip_assets.lineage.history import remember
from rlip_assets.lineage.runner import MANIFEST_SCHEMA
from rlip_assets.tracking.promotion import PROMOTIONS_FILE, Promotion
from rlip_assets.tracking.verdicts import Check, checks_of

NOWHERE = Path("nowhere")


def check(stage: str, name: str) -> Check:
    (found,) = [check for check in checks_of(stage) if check.name == name]
    return found


@pytest.mark.parametrize(
    ("stage", "name", "good", "bad"),
    [
        ("scenes", "usable_images", {"images": 99, "input": 100}, {"images": 50, "input": 100}),
        ("captions", "captions_per_image", {"captions": 30, "images": 3}, {"captions": 2, "images": 3}),
        ("captions", "captions_differ", {"captions": 30, "different_captions": 20}, {"captions": 90, "different_captions": 3}),
        ("caption_triplets", "triplets_per_image", {"triplets": 9, "images": 3}, {"triplets": 0, "images": 3}),
        ("candidates", "candidates_per_image", {"candidates": 9, "images": 3}, {"candidates": 900, "images": 3}),
        ("pseudo_labels", "labels_per_image", {"labels": 9, "images": 3}, {"labels": 9, "images": 0}),
        ("label_quality", "precision", {"precision": 0.8}, {"precision": 0.2}),
        ("r_tagger", "no_test_image_in_training", {"test_images_in_training": 0}, {"test_images_in_training": 1}),
        ("pretrain", "no_test_image_in_training", {"test_images_in_training": 0}, {"test_images_in_training": 1}),
        ("finetune", "no_test_image_in_training", {"test_images_in_training": 0}, {"test_images_in_training": 1}),
        ("benchmark", "metric_above_floor", {"headline": 0.2}, {"headline": 0.001}),
    ],
)  # fmt: skip
def test_a_check_tells_good_from_bad(stage: str, name: str, good: dict[str, Any], bad: dict[str, Any]) -> None:
    def passes(figures: dict[str, Any]) -> bool:
        return check(stage, name).judge({"figures": figures, "params": {"benchmarks": {"floor": 0.01}}}, NOWHERE)[0]

    assert passes(good)
    assert not passes(bad)
    assert not passes({})
    assert not check(stage, name).judge(None, NOWHERE)[0]


@pytest.mark.parametrize("change", [{"schema": MANIFEST_SCHEMA + 1}, {"stage": "other"}])
def test_a_foreign_manifest_is_not_valid(change: dict[str, Any]) -> None:
    good = {"schema": MANIFEST_SCHEMA, "stage": "scenes"}
    assert check("scenes", "schema_valid").judge(good, NOWHERE)[0]
    assert not check("scenes", "schema_valid").judge(good | change, NOWHERE)[0]
    assert not check("scenes", "schema_valid").judge(None, NOWHERE)[0]


def test_a_bad_model_warns_and_a_leak_is_an_error() -> None:
    assert check("benchmark", "metric_above_floor").warns
    assert not check("finetune", "no_test_image_in_training").warns


def test_the_promotion_gate_looks_at_the_floor_and_at_the_champion(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("promotion: {floor: 0.3, tolerance: 0.05}\n")

    def passes(score: float) -> bool:
        return check("r_tagger", "promotion_gate").judge({"figures": {"held_out_f1": score}}, tmp_path)[0]

    assert (passes(0.31), passes(0.29)) == (True, False)
    champion = Promotion("r_tagger", "2", "run", "hash", 0.6)
    (tmp_path / PROMOTIONS_FILE).parent.mkdir()
    (tmp_path / PROMOTIONS_FILE).write_text(json.dumps({"r_tagger": asdict(champion)}))
    assert (passes(0.56), passes(0.54)) == (True, False)
    assert not check("r_tagger", "promotion_gate").judge({"figures": {}}, tmp_path)[0]


def test_labels_that_drift_from_those_before_warn(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("drift: {yields: 0.2}\n")
    drift = check("pseudo_labels", "drift")

    def result(labels: int) -> dict[str, Any]:
        return {"stage": "pseudo_labels", "partition": "coco-0", "figures": {"images": 100, "labels": labels}}

    assert drift.judge(result(100), tmp_path) == (True, "no earlier result to compare with")
    for labels, passed in ((100, True), (110, True), (140, False), (140, False), (139, True)):
        remember(tmp_path, "pseudo_labels@coco-0", result(labels))
        assert drift.judge(result(labels), tmp_path)[0] == passed
    assert drift.warns
