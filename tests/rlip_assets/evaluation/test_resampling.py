"""A draw of images gives what evaluating these images gives; intervals follow from the seed and hold the figure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlip_assets.evaluation.core import protocols
from rlip_assets.evaluation.core.evaluator import Evaluator
from rlip_assets.evaluation.core.ground_truth import GroundTruth
from rlip_assets.evaluation.core.ragged import offsets_of, ranges
from rlip_assets.evaluation.core.results import ProtocolResult
from rlip_assets.evaluation.formats.predictions import ImagePredictions, PredictionBatch
from rlip_assets.evaluation.headlines import HEADLINES
from rlip_assets.evaluation.hico_det.evaluator import HicoDetEvaluator
from rlip_assets.evaluation.open_images.triplet import OpenImagesTripletEvaluator
from rlip_assets.evaluation.v_coco.ground_truth import OfficialTruth
from rlip_assets.evaluation.v_coco.official import VcocoOfficialEvaluator
from tests.support.random_official_worlds import make_official_world
from tests.support.random_worlds import Knobs, make_world

FORMS: dict[str, type[Evaluator[Any, list[ProtocolResult]]]] = {
    "hico_det": HicoDetEvaluator,
    "open_images": OpenImagesTripletEvaluator,
    "v_coco": VcocoOfficialEvaluator,
}


def world_of(name: str, seed: int) -> Any:
    # Every combination is a class: the scores of one that is none are masked to 0, and so tie.
    chosen = Knobs(seed=seed, images=5, objects=2, verbs=2, pairs=6, grid=4, levels=1000, offset=0.0, density=1.0)
    return make_official_world(chosen) if name == "v_coco" else make_world(name, chosen)


def result_of(name: str, truth: Any, vocabulary: Any, images: list[ImagePredictions]) -> ProtocolResult:
    evaluator = FORMS[name](truth, vocabulary)
    evaluator.resampled = HEADLINES[name].protocol
    evaluator.update(PredictionBatch.of(images, len(vocabulary.verbs)))
    (result,) = [each for each in evaluator.compute() if each.name == evaluator.resampled]
    return result


def repeated(truth: Any, chosen: np.ndarray) -> Any:
    """The annotations of some images, one after the other under new ids."""

    def rows(offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counts = np.diff(offsets)[chosen]
        return offsets_of(counts), ranges(offsets[:-1][chosen], counts)

    names = tuple(f"{number}" for number in range(len(chosen)))
    if isinstance(truth, GroundTruth):
        (box_offsets, boxes), (relation_offsets, relations) = rows(truth.box_offsets), rows(truth.relation_offsets)
        parts = truth.boxes[boxes], truth.labels[boxes], relation_offsets, truth.relations[relations]
        return GroundTruth(names, truth.sizes[chosen], box_offsets, *parts, truth.origin)
    assert isinstance(truth, OfficialTruth)
    offsets, persons = rows(truth.person_offsets)
    own = truth.persons[persons], truth.labels[persons], truth.role_boxes[persons]
    return OfficialTruth(names, truth.sizes[chosen], truth.actions, offsets, *own)


@pytest.mark.parametrize("name", FORMS)
def test_a_draw_is_the_evaluation_of_its_images(name: str) -> None:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 3), min_size=5, max_size=5))
    def check(seed: int, times: list[int]) -> None:
        world = world_of(name, seed)
        generator = np.random.default_rng(seed)
        # Equal scores in one image are told apart by the order of its copies, which a draw does not know.
        images = [replace(one, scores=generator.random(one.scores.shape).astype(np.float32)) for one in world.images]
        chosen = np.repeat(np.arange(5), times)
        copies = [replace(images[row], image_id=str(number)) for number, row in enumerate(chosen)]
        whole = result_of(name, world.truth, world.vocabulary, images)
        again = result_of(name, repeated(world.truth, chosen), world.vocabulary, copies)
        assert whole.resampling
        whole_again = dict(whole.resampling.of_draw(np.ones(5, np.int64)))
        assert whole_again == pytest.approx(dict(whole.figures), rel=1e-12, nan_ok=True)
        drawn = dict(whole.resampling.of_draw(np.array(times)))
        assert drawn == pytest.approx(
            dict(again.figures), rel=1e-12, nan_ok=True
        )  # sums in another order differ in their last bit

    check()


def test_intervals_follow_from_the_seed_and_narrow_with_images() -> None:
    world = make_world("hico_det", Knobs(7, 40, 2, 2, 6, 4, 1000, 0.0, 0.6))
    result = result_of("hico_det", world.truth, world.vocabulary, list(world.images))
    more = repeated(world.truth, np.repeat(np.arange(40), 16))
    copies = [replace(world.images[number // 16], image_id=str(number)) for number in range(640)]
    larger = result_of("hico_det", more, world.vocabulary, copies)
    assert result.resampling
    assert larger.resampling
    intervals = result.resampling.intervals()
    assert intervals == result.resampling.intervals()
    assert intervals != result.resampling.intervals(seed=1)
    low, high = intervals["full"]
    assert 0 <= low < result.figures["full"] < high <= 1
    narrow = larger.resampling.intervals()["full"]
    assert (narrow[1] - narrow[0]) < (high - low) / 2  # sixteen times the images: about a quarter


def test_only_the_named_result_is_resampled() -> None:
    world = world_of("hico_det", 3)
    evaluator = HicoDetEvaluator(world.truth, world.vocabulary)
    evaluator.update(world.batch)
    assert not any(result.resampling for result in evaluator.compute())
    evaluator.resampled = f"{protocols.HICO_RLIPV2}/{protocols.NMS}"
    assert [result.name for result in evaluator.compute() if result.resampling] == [evaluator.resampled]
