"""Label quality on labels whose truth is known by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlip_assets.datasets.scenes import Scene, make_scene, scene_hash, write_scenes
from rlip_assets.labelling.calibration.curves import Isotonic, reliability
from rlip_assets.labelling.human_ground_truth import best_boxes, human_relations
from rlip_assets.labelling.label_tables import CandidateRow, CaptionRow, TripletRow, write_rows
from rlip_assets.labelling.quality import (
    Judged,
    at_threshold,
    by_relation,
    judge_dataset,
    operating_threshold,
    quality_stage,
    reliability_of,
    wordings_of,
)
from rlip_assets.labelling.true_relations import TrueRelation, write_true_relations
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.shards import shard_of
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.files import write_json
from rlip_assets.training.training_images import is_held_out
from tests.support.label_factory import Log

TRUTH = [
    TrueRelation("1", 0, 1, "ride", ["ride", "riding", "rides on"], ["on", "on top of"], False),
    TrueRelation("1", 1, 2, "chase", ["chase", "chasing"], [], False),
    TrueRelation("1", 0, 2, "next to", ["next to", "beside"], [], True),
]


def scene(labels: list[tuple[int, int, str, float]], image_id: str = "1") -> Scene:
    boxes = [(0, 0, 9, 9), (9, 9, 20, 20), (20, 20, 30, 30)]
    triplets = [label[:3] for label in labels]
    return make_scene(
        image_id, "coco", "train", "f", 40, 40, boxes, ["a", "b", "c"], triplets, [label[3] for label in labels]
    )


LABELS = [
    (0, 1, "ride", 0.9),  # right
    (0, 1, "rides on", 0.8),  # right: another wording of the same
    (0, 1, "on", 0.7),  # right: implied, finds nothing
    (1, 0, "ride", 0.6),  # wrong way round
    (0, 2, "beside", 0.5),  # right
    (1, 2, "ride", 0.4),  # wrong relation
    (1, 2, "chasing", 0.3),  # right
]


def judged() -> Judged:
    found = Judged()
    found.add(scene(LABELS), TRUTH)
    return found


def test_labels_are_judged_by_normal_form_direction_and_implication() -> None:
    assert judged().right == [True, True, True, False, True, False, True]
    assert judged().best == pytest.approx([0.9, 0.3, 0.5])


def test_figures_at_a_threshold() -> None:
    found = at_threshold(judged(), 0.5)
    assert found == {
        "labels": 5,
        "true_relations": 2,
        "precision": 0.8,
        "recall": 0.5,
        "f1": pytest.approx(2 * 0.8 * 0.5 / 1.3),
        "spatial_recall": 1.0,
    }
    nothing = at_threshold(judged(), 0.95)
    assert (nothing["labels"], nothing["precision"], nothing["recall"], nothing["f1"]) == (0, None, 0.0, None)


def test_by_relation_counts_wordings_together() -> None:
    found = by_relation(judged(), 0.25)
    assert found["ride"] == {"labels": 4, "true_relations": 1, "precision": 0.5, "recall": 1.0}
    assert found["next to"] == {"labels": 1, "true_relations": 1, "precision": 1.0, "recall": 1.0}
    assert found["on"]["recall"] is None


def test_a_wrong_label_counts_for_the_relation_that_its_text_names_in_another_image() -> None:
    feed = TrueRelation("2", 0, 1, "feed", ["feed", "giving food to"], [], False)
    found = Judged()
    labels = scene([(0, 1, "give food to", 0.9), (0, 1, "leads", 0.9)])
    found.add(labels, TRUTH, wordings=wordings_of([*TRUTH, feed]))
    assert found.relation == ["feed", "leads"]  # of which nothing is known, so that it stands for itself
    assert not any(found.right)


def test_the_operating_threshold_keeps_the_asked_precision_where_it_can() -> None:
    wanted = judged()
    assert at_threshold(wanted, operating_threshold(wanted, 0.8))["precision"] >= 0.8  # type: ignore[operator]
    best = max(
        (t for t in np.arange(0.05, 1, 0.01).round(2)), key=lambda t: (at_threshold(wanted, float(t))["f1"] or 0, t)
    )
    assert operating_threshold(wanted, 0.0) == pytest.approx(best)
    hopeless = Judged([0.9], [False], ["x"], [-1.0], [False], ["y"], 1)
    assert operating_threshold(hopeless, 0.8) == pytest.approx(0.99)


def test_calibration_of_honest_and_overconfident_labels() -> None:
    honest = Judged([0.25] * 4 + [0.75] * 4, [True] + [False] * 3 + [True] * 3 + [False], ["r"] * 8)
    assert reliability_of(honest)["expected_calibration_error"] == pytest.approx(0)
    bold = Judged([0.95] * 4, [True, False, False, False], ["r"] * 4)
    assert reliability_of(bold)["expected_calibration_error"] == pytest.approx(0.7)
    assert reliability_of(Judged()) == {"curve": [], "expected_calibration_error": None}


def test_stage_chooses_on_one_half_and_reports_the_other(tmp_path: Path) -> None:
    ids = [str(i) for i in range(40)]
    scenes = [scene(LABELS, image_id) for image_id in ids]
    write_scenes(tmp_path / "coco" / "bucket-0", scenes[:20])
    write_scenes(tmp_path / "coco" / "bucket-1", scenes[20:])
    truth = [TrueRelation(i, *list(vars(t).values())[1:]) for i in ids for t in TRUTH]
    write_true_relations(tmp_path / "truth" / "coco.parquet", truth)
    (tmp_path / "out").mkdir()
    inputs = {"pseudo_labels/coco": tmp_path / "coco", "truth": tmp_path / "truth"}
    log = Log()
    ctx = StageContext(
        "label_quality", None, Params(), inputs, {"label_quality": tmp_path / "out"}, tmp_path / "w", log
    )
    figures = quality_stage(ctx)
    report = json.loads((tmp_path / "out" / "label_quality.json").read_text())
    assert report["chosen_on_images"] == sum(shard_of(i, 2) == 0 for i in ids)
    assert report["reported_on_images"] == sum(shard_of(i, 2) == 1 for i in ids) == figures["reported_on_images"]
    expected = at_threshold(judged(), report["operating_threshold"])
    assert {name: figures[name] for name in ("precision", "recall", "f1")} == {
        n: expected[n] for n in ("precision", "recall", "f1")
    }
    assert figures == {name: value for name, value in report.items() if not isinstance(value, dict | list)}
    assert len(report["curve"]) == 19
    assert log.pictures == ["label-quality"]


def test_lost_relations_and_the_errors_without_calibration_are_reported(tmp_path: Path) -> None:
    """Each image's captions say one of its two relations; the other one's label comes from a candidate of no caption."""
    ids = [str(i) for i in range(12)]
    for number in range(2):
        scenes = [scene(LABELS, image_id) for image_id in ids[number::2]]
        bucket = f"bucket-{number}"
        write_scenes(tmp_path / "labels" / bucket, scenes)
        found = [CandidateRow(s.image_id, scene_hash(s), [0], [1], ["ride"], ["riding"], [1]) for s in scenes]
        said = [CaptionRow(s.image_id, ["an a is riding a b"]) for s in scenes]
        parsed = [TripletRow(s.image_id, ["a"], ["ride"], ["riding"], ["b"], [1]) for s in scenes]
        for step, kind, rows in (
            ("captions", CaptionRow, said),
            ("caption_triplets", TripletRow, parsed),
            ("candidates", CandidateRow, found),
        ):
            write_rows(tmp_path / step / bucket / "part-00000.parquet", kind, rows)  # type: ignore[type-var]
    truth = [TrueRelation(i, *list(vars(t).values())[1:]) for i in ids for t in TRUTH]
    write_true_relations(tmp_path / "truth" / "coco.parquet", truth)
    write_json(tmp_path / "classes.json", {"dataset": "coco", "objects": ["a", "b", "c"]})
    curve = Isotonic(scores=(0.0, 0.4, 1.0), confidences=(0.0, 0.8, 1.0))
    write_json(tmp_path / "calibration" / "calibration.json", curve.model_dump(mode="json"))
    (tmp_path / "out").mkdir()
    inputs = {f"{step}/coco": tmp_path / step for step in ("captions", "caption_triplets", "candidates")}
    inputs |= {"pseudo_labels/coco": tmp_path / "labels", "truth": tmp_path / "truth"}
    inputs |= {"classes/coco": tmp_path / "classes.json", "calibration": tmp_path / "calibration"}
    outputs = {"label_quality": tmp_path / "out"}
    figures = quality_stage(StageContext("label_quality", None, Params(), inputs, outputs, tmp_path / "w", Log()))
    report = json.loads((tmp_path / "out" / "label_quality.json").read_text())
    images, above = report["reported_on_images"], report["operating_threshold"] > 0.3  # chase has confidence 0.3
    empty = {"not_sure": 0, "not_matched": 0, "not_parsed": 0}
    assert report["losses"] == {"coco": {"found": images * (2 - above), **empty, "not_captioned": images * above}}
    assert sum(report["losses"]["coco"].values()) == figures["true_relations"]
    before = [curve.undo(np.array([label[3]]))[0] for label in LABELS]
    right = np.array([True, True, True, False, True, False, True])
    expected = reliability(np.array(before), right)
    found = report["uncalibrated"]
    assert found["curve"] == [
        pytest.approx(point | {"labels": point["labels"] * images}) for point in expected["curve"]
    ]
    assert found["expected_calibration_error"] == figures["expected_calibration_error_uncalibrated"]
    assert found["expected_calibration_error"] == pytest.approx(expected["expected_calibration_error"])


def test_missing_and_foreign_truth_are_named(tmp_path: Path) -> None:
    write_scenes(tmp_path / "labels", [scene(LABELS)])
    with pytest.raises(InputError, match=r"coco\.parquet"):
        judge_dataset([tmp_path / "labels"], tmp_path / "coco.parquet")
    write_true_relations(tmp_path / "coco.parquet", [TrueRelation("1", 0, 3, "on", ["on"], [], False)])
    with pytest.raises(DataError, match="3 boxes"):
        judge_dataset([tmp_path / "labels"], tmp_path / "coco.parquet")


def test_real_coco_images_are_judged_by_the_people_of_visual_genome(tmp_path: Path) -> None:
    """Visual Genome has its own size and boxes; its triplets are carried over to the COCO boxes that they overlap."""
    images = [f"{n}" for n in range(40)]
    facts: dict[str, Any] = {
        "coco_ids": {f"{1000 + int(n)}": n for n in images},
        "object_aliases": [],
        "relation_aliases": [],
    }
    write_json(tmp_path / "facts.json", facts)
    stored = [(0, 1, "riding", 0.9), (0, 1, "chase", 0.6), (1, 2, "ride", 0.8), (0, 2, "near", 0.7)]
    write_scenes(tmp_path / "labels", [scene(stored, n) for n in images])
    half = [(0, 0, 5, 4.5), (4.5, 4.5, 10, 10), (10, 10, 15, 15), (10, 10, 15.5, 15), (0, 19, 1, 20)]
    said = [(0, 1, "rides"), (0, 1, "riding"), (0, 2, "next to"), (1, 3, "chase"), (0, 4, "hold"), (2, 3, "on")]
    names = ["man", "horse", "dog", "puppy", "leaf"]
    people = [make_scene(1000 + int(n), "visual_genome", "train", "f", 20, 20, half, names, said) for n in images]
    write_scenes(
        tmp_path / "people", [*people, make_scene(7, "visual_genome", "train", "f", 20, 20, half, names, said)]
    )
    inputs = {"pseudo_labels/coco": tmp_path / "labels", "human_scenes": tmp_path / "people"}
    inputs["facts"] = tmp_path / "facts.json"
    (tmp_path / "out").mkdir()

    def judged_with(holdout: float) -> dict[str, Any]:
        training = {"r_tagger": {"recipe": "micro_tagger", "changes": {"holdout": holdout}}}
        params = Params.model_validate({"training": training})
        work = tmp_path / "work/label_quality/digest"
        ctx = StageContext("label_quality", None, params, inputs, {"label_quality": tmp_path / "out"}, work, Log())
        quality_stage(ctx)
        found: dict[str, Any] = json.loads((tmp_path / "out/label_quality.json").read_text())
        return found

    report = judged_with(0.0)
    # carried over: ride (0, 1) once, next to (0, 2), chase (1, 2); the leaf has no COCO box, dog and puppy are one
    counted = {
        "images": 40,
        "human_triplets": 240,
        "carried_over": 120,
        "labels_not_judged": 0,
        "images_trained_on": 40,
    }
    assert report["human"] == counted
    lowest = report["curve"][0]
    assert lowest["labels"] == 4 * report["reported_on_images"]
    assert lowest["precision"] == pytest.approx(1 / 4)  # chase, ride (1, 2) and near are not what people said
    assert lowest["recall"] == pytest.approx(1 / 2)  # ride of ride and chase
    assert lowest["spatial_recall"] == 0
    assert report["chosen_on_images"] + report["reported_on_images"] == 40
    held = sum(is_held_out(scene.image_id, 0.3) for scene in people)
    assert 0 < held < 40
    fewer = judged_with(0.3)  # the R-Tagger was trained on the others
    assert fewer["chosen_on_images"] + fewer["reported_on_images"] == fewer["human"]["images"] == held
    assert fewer["human"]["images_trained_on"] == 0

    write_json(tmp_path / "facts.json", facts | {"coco_ids": None})  # some copies of Visual Genome lack the file
    unjudged = judged_with(0.0)
    assert "image_data.json" in unjudged["not_judged"]
    assert (unjudged["reported_on_images"], unjudged["operating_threshold"], unjudged["precision"]) == (0, None, None)
    assert "human" not in unjudged


def test_labels_of_pairs_that_people_did_not_speak_of_are_not_judged(tmp_path: Path) -> None:
    labelled = {"1": scene([(0, 1, "ride", 0.9), (2, 1, "ride", 0.9)])}
    boxes = labelled["1"].boxes
    people = make_scene("vg", "visual_genome", "train", "f", 40, 40, boxes, ["a", "b", "c"], [(0, 1, "ride")])
    counts: Counter[str] = Counter()
    (relation,) = human_relations(labelled, [people], {"vg": "1"}, counts)
    assert (relation.image_id, relation.subject, relation.object, relation.spatial) == ("1", 0, 1, False)
    assert best_boxes(people, labelled["1"]).tolist() == [0, 1, 2]
    nothing = make_scene("vg", "visual_genome", "train", "f", 40, 40, [], [])
    assert best_boxes(nothing, labelled["1"]).tolist() == []
