"""Gathering in several processes and merging gives what one process gives; images that samplers hand out twice count once."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from rlip_assets.evaluation.alignment import AlignmentEvaluator
from rlip_assets.evaluation.core.evaluator import Evaluator
from rlip_assets.evaluation.core.results import ProtocolResult
from rlip_assets.evaluation.formats.predictions import ImagePredictions, PredictionBatch
from rlip_assets.evaluation.hico_det.evaluator import HicoDetEvaluator
from rlip_assets.evaluation.open_images.predicate import OpenImagesPredicateEvaluator
from rlip_assets.evaluation.open_images.triplet import OpenImagesTripletEvaluator
from rlip_assets.evaluation.v_coco.official import VcocoOfficialEvaluator
from rlip_assets.evaluation.v_coco.training_metric import VcocoTrainingEvaluator
from rlip_assets.storage.errors import DataError
from tests.support.random_official_worlds import make_official_world
from tests.support.random_worlds import Knobs, knobs, make_world

AnyEvaluator = Evaluator[Any, list[ProtocolResult]]
Make = Callable[[], AnyEvaluator]
PROCESSES = 3
FEW = settings(max_examples=25, deadline=None)


def benchmark(name: str, chosen: Knobs) -> tuple[Make, list[ImagePredictions]]:
    """A way to make fresh evaluators of a random benchmark, and its predictions."""
    if name == "official":
        official = make_official_world(chosen)
        return lambda: VcocoOfficialEvaluator(official.truth, official.vocabulary), official.images
    kinds = {
        "hico_det": ("hico_det", HicoDetEvaluator),
        "training": ("v_coco", VcocoTrainingEvaluator),
        "triplets": ("open_images", OpenImagesTripletEvaluator),
        "predicates": ("open_images", OpenImagesPredicateEvaluator),
    }
    kind, form = kinds[name]
    world = make_world(kind, chosen)
    return lambda: form(world.truth, world.vocabulary), list(world.images)


def sent(state: Mapping[str, Any]) -> Mapping[str, np.ndarray]:
    """As another process receives it: arrays and nothing else."""
    buffer = io.BytesIO()
    np.savez(buffer, **state)
    buffer.seek(0)
    return dict(np.load(buffer, allow_pickle=False))


def assert_same(ours: list[ProtocolResult], theirs: list[ProtocolResult]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.name == other.name
        np.testing.assert_equal(dict(mine.figures), dict(other.figures))
        for task, table in mine.tables.items():
            np.testing.assert_array_equal(table.ap, other.tables[task].ap)
            np.testing.assert_array_equal(table.ranks.ranks, other.tables[task].ranks.ranks)
            np.testing.assert_array_equal(table.ranks.detections, other.tables[task].ranks.detections)


@pytest.mark.parametrize("name", ["hico_det", "training", "triplets", "predicates", "official"])
def test_merged_is_as_gathered_at_once(name: str) -> None:
    @FEW
    @given(knobs)
    def run(chosen: Knobs) -> None:
        make, images = benchmark(name, chosen)
        rng = np.random.default_rng(chosen.seed)
        alone = make()
        verbs = len(alone.vocabulary.verbs)
        alone.update(PredictionBatch.of(images, verbs))
        parts = [make() for _ in range(PROCESSES)]
        given_out = 0
        for number in rng.permutation(len(images)):
            for process in rng.choice(PROCESSES, 1 + int(rng.random() < 0.3), replace=False):
                parts[process].update(PredictionBatch.of([images[number]], verbs))
                given_out += 1
        merged = make()
        for part in parts:
            merged.load_state(sent(part.state()))
        assert_same(merged.compute(), alone.compute())
        assert merged.counts == alone.counts | {"images_merged_twice": given_out - len(images)}
        first, *others = parts
        for part in others:
            first.merge(part)
        assert_same(first.compute(), alone.compute())

    run()


@FEW
@given(knobs)
def test_merged_features_are_as_gathered_at_once(chosen: Knobs) -> None:
    rng = np.random.default_rng(chosen.seed)
    features = rng.normal(size=(20, 4)).astype(np.float32)
    labels = rng.integers(0, chosen.verbs, 20)
    alone, first, second = (AlignmentEvaluator(chosen.verbs) for _ in range(3))
    alone.update(features, labels)
    first.update(features[:7], labels[:7])
    second.update(features[7:], labels[7:])
    merged = AlignmentEvaluator(chosen.verbs)
    for part in (first, second):
        merged.load_state(sent(part.state()))
    np.testing.assert_equal(merged.compute(), alone.compute())


WORLD = make_world(
    "hico_det", Knobs(seed=8, images=4, objects=3, verbs=3, pairs=12, grid=9, levels=5, offset=0, density=1)
)


def test_odd_boxes_are_counted_and_scored_as_they_are() -> None:
    """Outside means more than a pixel over the edge; degenerate means without width or height, or inside out."""
    image = WORLD.images[0]
    boxes = np.tile(np.array([1, 1, 5, 5], np.float32), (6, 1))
    odd = boxes.copy()
    odd[0] = [-0.5, 0, 9.5, 9.5]  # within a pixel of the edge (the image is 9 wide)
    odd[1] = [-2, 0, 5, 5]
    odd[2] = [0, 0, 5, 10.5]
    odd[3] = [5, 1, 5, 5]
    odd[4] = [5, 5, 1, 1]
    pairs = replace(
        image, sub_boxes=odd, obj_boxes=boxes, sub_labels=np.zeros(6, np.int32), obj_labels=np.zeros(6, np.int32),
        scores=np.ones((6, 3), np.float32),
    )  # fmt: skip
    evaluator = HicoDetEvaluator(WORLD.truth, WORLD.vocabulary)
    evaluator.update(PredictionBatch.of([pairs], 3))
    counts = evaluator.counts
    assert (counts["pairs_outside_image"], counts["pairs_degenerate"]) == (2, 2)
    assert counts["images_without_predictions"] == len(WORLD.images) - 1


def test_an_image_is_predicted_once() -> None:
    evaluator = HicoDetEvaluator(WORLD.truth, WORLD.vocabulary)
    with pytest.raises(DataError, match="image 'image 1' was predicted before"):
        evaluator.update(PredictionBatch.of([WORLD.images[i] for i in (0, 1, 1)], 3))
    evaluator.update(PredictionBatch.of([WORLD.images[2]], 3))
    with pytest.raises(DataError, match=r"file, row 5: image 'image 2' was predicted before"):
        evaluator.update(PredictionBatch.of([WORLD.images[3], WORLD.images[2]], 3, "file", 4))


def test_scores_for_other_verbs_are_refused() -> None:
    evaluator = HicoDetEvaluator(WORLD.truth, WORLD.vocabulary)
    image = replace(WORLD.images[0], scores=WORLD.images[0].scores[:, :2])
    with pytest.raises(DataError, match="predictions score 2 verbs, the benchmark has 3"):
        evaluator.update(PredictionBatch.of([image], 2))
