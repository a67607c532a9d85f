"""Calibration changes no ranking, makes wrong confidences right, and takes every input that a run can give or refuses it in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rlip_assets.datasets.scenes import make_scene, write_scenes
from rlip_assets.labelling.calibration import stage as calibration_module
from rlip_assets.labelling.calibration.curves import (
    BINS,
    Isotonic,
    Temperature,
    cross_validated_error,
    fit_calibration,
    read_calibration,
    reliability,
)
from rlip_assets.labelling.calibration.stage import calibration_stage
from rlip_assets.labelling.tagging.filters import Labels
from rlip_assets.labelling.tagging.stage import filtered, tagger_digest
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.params.labels import TaggingParams
from rlip_assets.lineage.registry import build_registry
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.files import write_json
from rlip_assets.training.training_images import is_held_out
from tests.support.label_factory import Log, draw_bucket, tagger_folder, write_raw_manifest

METHODS = ("temperature", "isotonic")
judged = st.integers(1, 60).flatmap(
    lambda n: st.tuples(
        arrays(np.float32, n, elements=st.floats(0, 1, width=32)), arrays(np.bool_, n, elements=st.booleans())
    )
)


@pytest.mark.parametrize("method", METHODS)
@given(data=judged)
@settings(max_examples=60, deadline=None)
def test_a_calibration_strictly_increases_and_can_be_undone(
    method: Any, data: tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]
) -> None:
    fitted = fit_calibration(method, *data)
    grid = np.linspace(0, 1, 201)
    found = fitted(grid)
    assert found[0] == 0
    assert found[-1] == 1
    if method == "isotonic":
        assert (np.diff(found) > 0).all()
        assert fitted.undo(found) == pytest.approx(grid, abs=1e-6)
    else:  # near 0 and 1 a float has no room for the powers of a low temperature
        middle = (found > 1e-9) & (found < 1 - 1e-9)
        assert (np.diff(found) >= 0).all()
        assert (np.diff(found[middle]) > 0).all()
        assert fitted.undo(found[middle]) == pytest.approx(grid[middle], abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
@given(data=judged)
@settings(max_examples=40, deadline=None)
def test_stored_labels_keep_their_order(
    method: Any, data: tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]
) -> None:
    scores, right = data
    labels = Labels.of([0] * len(scores), [1] * len(scores), [f"r{n}" for n in range(len(scores))], scores.tolist())
    scene = make_scene("1", "coco", "train", "f", 9, 9, [(0, 0, 9, 9), (0, 0, 5, 5)], ["a", "b"])
    params = TaggingParams(store_threshold=0, top_k=20)
    plain = filtered(labels, scene, params)
    calibrated = filtered(labels, scene, params, fit_calibration(method, scores, right))
    assert calibrated.relation == plain.relation
    assert (np.diff(calibrated.confidence) <= 0).all()


@pytest.mark.parametrize("power", [0.4, 3.0])
def test_calibration_makes_wrong_confidences_right(power: float) -> None:
    generator = np.random.default_rng(7)
    truth = generator.random(4000)
    right = generator.random(4000) < truth
    yes, no = truth**power, (1 - truth) ** power  # a tagger whose logits are `power` times what they should be
    scores, fit, rest = yes / (yes + no), slice(0, 2000), slice(2000, None)
    before = reliability(scores[rest], right[rest])["expected_calibration_error"]
    for method in METHODS:
        fitted = fit_calibration(method, scores[fit], right[fit])  # type: ignore[arg-type]
        after = reliability(fitted(scores[rest]), right[rest])["expected_calibration_error"]
        assert after < 0.04 < before
    temperature = fit_calibration("temperature", scores, right)
    assert isinstance(temperature, Temperature)
    assert temperature.temperature == pytest.approx(power, rel=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_degenerate_and_unusable_scores(method: Any) -> None:
    low, high = np.linspace(0.1, 0.4, 9), np.full(5, 0.9)
    assert fit_calibration(method, high, np.zeros(5, bool))(np.array([0.9]))[0] < 0.9
    assert fit_calibration(method, low, np.ones(9, bool))(np.array([0.4]))[0] > 0.4 or method == "temperature"
    for score in (0.0, 0.5, 1.0):
        for right in (True, False):
            assert 0 <= fit_calibration(method, np.array([score]), np.array([right]))(np.array([0.5]))[0] <= 1
    with pytest.raises(DataError, match="no label to fit"):
        fit_calibration(method, np.zeros(0), np.zeros(0, bool))
    for wrong in (np.nan, -0.1, 1.1, np.inf):
        with pytest.raises(DataError, match="row 1 has a score"):
            fit_calibration(method, np.array([0.5, wrong]), np.array([True, False]))


def test_a_calibration_is_read_as_it_was_written_or_named(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    with pytest.raises(InputError, match="does not exist"):
        read_calibration(path)
    for fitted in (Temperature(temperature=0.7), Isotonic(scores=(0, 0.3, 1), confidences=(0, 0.6, 1))):
        write_json(path, fitted.model_dump(mode="json"))
        assert read_calibration(path) == fitted
    flat = {"method": "isotonic", "scores": [0, 0.3, 0.5, 1], "confidences": [0, 0.6, 0.6, 1]}
    damages: list[object] = [flat, {"method": "temperature", "temperature": 0}, {"method": "platt"}, []]
    for damaged in damages:
        write_json(path, damaged)
        with pytest.raises(InputError, match="is no calibration"):
            read_calibration(path)


def test_reliability_weighs_bins_of_equal_width() -> None:
    found = reliability(np.array([0.0, 1.0, 0.5, 0.52]), np.array([False, True, True, False]))
    assert BINS == 15
    assert [(point["from"], point["labels"]) for point in found["curve"]] == [(0, 1), (7 / 15, 2), (14 / 15, 1)]
    assert found["expected_calibration_error"] == pytest.approx(2 / 4 * 0.01)
    assert reliability(np.zeros(0), np.zeros(0, bool)) == {"curve": [], "expected_calibration_error": None}


def profile(calibration: str, **changes: Any) -> Params:
    tagging = {"tagging": {"calibration": calibration}} if calibration else {}
    return Params.model_validate({**tagging, **changes})


def test_the_stage_is_there_where_scores_are_calibrated() -> None:
    assert "calibration" not in build_registry(Params()).specs
    registry = build_registry(profile("isotonic"))
    item = registry.item("calibration")
    for partition in registry.spec("pseudo_labels").partitions:
        assert item.address in registry.parents[registry.item("pseudo_labels", partition).address]
    assert item.address in registry.parents[registry.item("label_quality").address]
    with pytest.raises(ValueError, match="not known; set it to none"):
        profile("isotonic", external={"r_tagger": "elsewhere"})
    with pytest.raises(ValueError, match="set holdout in training"):
        profile("temperature", training={"r_tagger": {"recipe": "micro_tagger", "changes": {"holdout": 0}}})


def test_the_stage_judges_held_out_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captions say what is annotated in other words, and something that is not."""
    share, raw = 0.5, tmp_path / "raw"
    scenes = [
        make_scene(one.image_id, "visual_genome", "train", one.file_name, one.width, one.height, one.boxes,
                   ["guy", "dog", "bench"], [(0, 1, "rides"), (1, 2, "on top of")])
        for one in draw_bucket(raw, 8)
    ]  # fmt: skip
    write_scenes(tmp_path / "scenes/bucket-0", scenes)
    write_raw_manifest(tmp_path, raw, scenes)
    aliases = {
        "object_aliases": [("man", "man"), ("guy", "man")],
        "relation_aliases": [("on", "on"), ("on top of", "on")],
    }
    write_json(tmp_path / "facts.json", {"coco_ids": None, **aliases})
    inputs = {
        "scenes": tmp_path / "scenes",
        "manifests": tmp_path,
        "r_tagger": tagger_folder(tmp_path / "tagger"),
        "captioner": tmp_path,
    }
    asked: list[str] = []

    def write(ids: list[str], photos: list[object]) -> list[list[str]]:
        asked.extend(ids)
        return [["a man is riding a dog", "a dog is on a bench and a man is holding a dog"] for _ in photos]

    monkeypatch.setattr(calibration_module, "open_captioner", lambda *_: write)
    training = {"device": "cpu", "r_tagger": {"recipe": "micro_tagger", "changes": {"holdout": share}}}
    sources = {"sources": {"visual_genome": {"root": str(raw)}}}
    params = profile("isotonic", training=training, **sources, captions={"batch_size": 3})
    (tmp_path / "out").mkdir()
    work = tmp_path / "work/calibration/digest"
    outputs = {"calibration": tmp_path / "out"}
    figures = calibration_stage(StageContext("calibration", None, params, inputs, outputs, work, Log()))
    held = {one.image_id for one in scenes if is_held_out(one.image_id, share)}
    assert set(asked) == held
    assert 0 < len(held) < 8
    assert figures["held_out_images"] == len(held)
    assert figures["judged_labels"] == 3 * len(held)  # ride, on, hold
    assert figures["right"] == pytest.approx(2 / 3)
    assert figures["unreadable_images"] == 0
    assert 0 <= figures["expected_calibration_error_cross_validated"] <= 1
    fitted = read_calibration(tmp_path / "out/calibration.json")
    assert isinstance(fitted, Isotonic)
    assert fitted.tagger == tagger_digest(inputs["r_tagger"])
    for one in scenes:
        (raw / one.file_name).write_bytes(b"no image")
    write_raw_manifest(tmp_path, raw, scenes)
    with pytest.raises(DataError, match=r"can be read, such as .*check the images in"):
        calibration_stage(StageContext("calibration", None, params, inputs, outputs, work, Log()))


def test_an_error_is_of_labels_that_the_map_was_not_fitted_to() -> None:
    """Scores that say nothing: a map of all labels would follow their chance, one of the other half does not."""
    generator = np.random.default_rng(1)
    scores, right = generator.random(4000), generator.random(4000) < 0.5
    second_half = np.arange(4000) % 2 == 1
    error = cross_validated_error("isotonic", scores, right, second_half)
    assert error is not None
    assert error < 0.05 < reliability(scores, right)["expected_calibration_error"]
    certain = np.where(second_half, scores > 0.5, scores <= 0.5)  # the two halves contradict each other
    assert (cross_validated_error("isotonic", scores, certain, second_half) or 0) > 0.25
    assert cross_validated_error("isotonic", scores, right, second_half & False) is None
