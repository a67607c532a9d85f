"""The fast evaluators and the loop formulations of the same protocols give the same figures, class by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings

from rlip_assets.evaluation.alignment import AlignmentEvaluator
from rlip_assets.evaluation.core.evaluator import Evaluator
from rlip_assets.evaluation.core.protocols import HICO_MATLAB, HICO_RLIPV2, NMS, PLAIN
from rlip_assets.evaluation.core.results import ClassTable, ProtocolResult
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.predictions import PredictionBatch
from rlip_assets.evaluation.hico_det.evaluator import HicoDetEvaluator
from rlip_assets.evaluation.hico_det.known_object import KnownObjects
from rlip_assets.evaluation.open_images.predicate import OpenImagesPredicateEvaluator
from rlip_assets.evaluation.open_images.triplet import OpenImagesTripletEvaluator
from rlip_assets.evaluation.v_coco.actions import OFFICIAL_VERBS
from rlip_assets.evaluation.v_coco.official import VcocoOfficialEvaluator
from rlip_assets.evaluation.v_coco.training_metric import VcocoTrainingEvaluator
from tests.oracle.alignment import alignment_uniformity
from tests.oracle.hico_det import drop_non_person_queries, evaluate_hico
from tests.oracle.open_images import evaluate_oi_predicate, evaluate_oi_triplet
from tests.oracle.v_coco import evaluate_vcoco
from tests.oracle.v_coco_official import evaluate_vcoco_official
from tests.support.random_official_worlds import make_official_world
from tests.support.random_worlds import Knobs, World, knobs, make_world, worlds

TOLERANCE = 1e-12
TIED = Knobs(seed=3, images=4, objects=2, verbs=3, pairs=40, grid=2, levels=1, offset=0.0, density=0.3)
"""Every score the same: matches of classes compete by their places alone."""
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def same(ours: float, theirs: float) -> bool:
    return (math.isnan(ours) and math.isnan(theirs)) or abs(ours - theirs) <= TOLERANCE


def assert_same_figures(result: ProtocolResult, names: Mapping[str, str], theirs: Mapping[str, float]) -> None:
    for mine, other in names.items():
        assert same(result.figures[mine], theirs[other]), (result.name, mine, result.figures[mine], theirs[other])


def assert_same_classes(
    table: ClassTable, key_of: Callable[[Any], int], theirs: Mapping[Any, Mapping[str, float]]
) -> None:
    assert sorted(table.keys) == sorted(key_of(key) for key in theirs)
    place = {int(key): i for i, key in enumerate(table.keys)}
    for key, row in theirs.items():
        i = place[key_of(key)]
        counts = (table.ranks.positives[i], table.ranks.detections[i], table.ranks.right[i])
        assert counts == (row["gts"], row["n"], row["tp"]), key
        assert same(table.ap[i], row["ap"]), key
        assert same(table.ranks.recall[i], row["recall"]), key


def split_update(evaluator: Evaluator, world: World) -> None:
    """Feed the images one by one and in a random order: neither may matter."""
    for i in world.rng.permutation(len(world.images)):
        evaluator.update(PredictionBatch.of([world.images[i]], len(world.vocabulary.verbs)))


def check_hico(world: World) -> None:
    num_verbs = len(world.vocabulary.verbs)
    known = {i: [int(o) for o in np.flatnonzero(world.rng.random(len(world.vocabulary.objects)) < 0.6)]
             for i in range(len(world.images))}  # fmt: skip
    top = int(world.rng.choice([1, 3, 20, 100]))
    rare = [i for i in range(len(world.vocabulary.hois)) if world.rng.random() < 0.5]
    counts = {(0, o, v): 1 if i in rare else 10 for i, (v, o) in enumerate(world.vocabulary.hois)}
    vocabulary = Vocabulary(**{**vars_of(world.vocabulary), "rare": tuple(rare)})
    images = KnownObjects({f"image {i}": tuple(objects) for i, objects in known.items()})
    evaluator = HicoDetEvaluator(world.truth, vocabulary, known_objects=images, top=top)
    split_update(evaluator, world)
    results = {result.name: result for result in evaluator.compute()}
    assert len(results) == 8
    of_object = {o: [i for i, objects in known.items() if o in objects] for o in range(len(vocabulary.objects))}
    for protocol, top_k in (("rlipv2", top), ("matlab", None)):
        for variant in (PLAIN, NMS):
            for suffix, known_images in (("", None), ("_known_object", of_object)):
                theirs = evaluate_hico(
                    world.predictions, world.truths, world.validity, counts, nms=variant == NMS, compat=True,
                    top_k=top_k, protocol=protocol, known_object_images=known_images,
                )  # fmt: skip
                ours = results[f"hico_det/{protocol}{suffix}/{variant}"]
                assert_same_classes(ours.tables[""], lambda key: key[1] * num_verbs + key[2], theirs["per_class"])
                names = {"full": "mAP", "rare": "mAP rare", "non_rare": "mAP non-rare", "max_recall": "mean max recall"}
                assert_same_figures(ours, names, theirs["metrics"])


def vars_of(vocabulary: Vocabulary) -> dict[str, Any]:
    return {name: getattr(vocabulary, name) for name in ("dataset", "objects", "verbs", "hois", "splits", "groups")}


def check_person_filter(world: World) -> None:
    images, predictions = [], []
    for image, prediction in zip(world.images, world.predictions, strict=True):
        labels = world.rng.integers(0, len(world.vocabulary.objects), len(image.sub_labels))
        images.append(
            type(image)(image.image_id, image.sub_boxes, image.obj_boxes, labels, image.obj_labels, image.scores)
        )
        mixed = {**prediction, "labels": np.concatenate([labels, image.obj_labels])}
        predictions.append(drop_non_person_queries(mixed))
    evaluator = HicoDetEvaluator(
        world.truth, world.vocabulary, only=(HICO_RLIPV2,), variants=(PLAIN,), person_filter=True
    )
    evaluator.update(PredictionBatch.of(images, len(world.vocabulary.verbs)))
    theirs = evaluate_hico(predictions, world.truths, world.validity, {}, nms=False, compat=True)
    assert_same_figures(evaluator.compute()[0], {"full": "mAP", "max_recall": "mean max recall"}, theirs["metrics"])


def check_vcoco_training(world: World) -> None:
    evaluator = VcocoTrainingEvaluator(world.truth, world.vocabulary)
    split_update(evaluator, world)
    names = [f"verb {i}" for i in range(len(world.vocabulary.verbs))]
    theirs = evaluate_vcoco(world.predictions, world.truths, world.validity, verb_names=names)
    (ours,) = evaluator.compute()
    assert_same_classes(ours.tables[""], int, theirs["per_class"])
    assert_same_figures(ours, {"map_all": "mAP_all", "map_thesis": "mAP_thesis"}, theirs["metrics"])


def check_triplets(world: World) -> None:
    labels, num_verbs = len(world.vocabulary.objects) + 1, len(world.vocabulary.verbs)
    for compat in (False, True):
        evaluator = OpenImagesTripletEvaluator(world.truth, world.vocabulary, compat=compat)
        split_update(evaluator, world)
        for ours in evaluator.compute():
            theirs = evaluate_oi_triplet(world.predictions, world.truths, nms=ours.variant == NMS, compat=compat)
            names = {"score_wtd": "score_wtd (wmAP)", "score_map": "score_wtd (mAP)"}
            for k in (100, 50):
                for task, name in (("rel", "RelD"), ("phr", "PhrD")):
                    names |= {
                        f"map_{task}_{k}": f"mAP@{k} ({name})",
                        f"wmap_{task}_{k}": f"wmAP@{k} ({name})",
                        f"recall_{task}_{k}": f"max recall@{k} ({name})",
                        f"mean_recall_{task}_{k}": f"mean max recall@{k} ({name})",
                    }
                    assert_same_classes(
                        ours.tables[f"{task}_{k}"],
                        lambda key: (key[0] * labels + key[1]) * num_verbs + key[2],
                        theirs["per_class"][f"{task}@{k}"],
                    )
            assert_same_figures(ours, names, theirs["metrics"])


def check_predicates(world: World) -> None:
    evaluator = OpenImagesPredicateEvaluator(world.truth, world.vocabulary)
    split_update(evaluator, world)
    (ours,) = evaluator.compute()
    theirs = evaluate_oi_predicate(world.predictions, world.truths)
    if not world.images:  # without an image the oracle does not know how many predicates there are
        return
    for task in ("rel", "phr"):
        table = ours.tables[task]
        for verb, row in theirs["per_class"].items():
            counts = (table.ranks.positives[verb], table.ranks.detections[verb], table.ranks.right[verb])
            assert counts == (row["gts"], row["n"], row[f"tp_{task}"])
            assert same(table.ap[verb], row[f"ap_{task}"])
    names = {"recall_50": "R@50", "recall_100": "R@100", "mean_recall_50": "mR@50", "score_wtd": "score_wtd"}
    names |= {
        f"{kind}_{task}": f"{long}_{task}"
        for kind, long in (("map", "mAP"), ("wmap", "wmAP"))
        for task in ("rel", "phr")
    }
    assert_same_figures(ours, names, theirs["metrics"])


def check_official(chosen: Knobs) -> None:
    world = make_official_world(chosen)
    evaluator = VcocoOfficialEvaluator(world.truth, world.vocabulary)
    evaluator.update(PredictionBatch.of(world.images, len(OFFICIAL_VERBS)))
    (ours,) = evaluator.compute()
    theirs = evaluate_vcoco_official(world.detections, world.coco_images, world.coco_boxes, world.actions)
    for mine, other in (("agent", "agent"), ("role_s1", "role_1"), ("role_s2", "role_2")):
        table = ours.tables[mine]
        for i, names in enumerate(table.names):
            row = theirs["per_class"][other]["_".join(names)]
            counts = (table.ranks.positives[i], table.ranks.detections[i], table.ranks.right[i])
            assert counts == (row["gts"], row["n"], row["tp"]), names
            assert same(table.ap[i], 0.0 if math.isnan(row["ap"]) else row["ap"]), names
    names_of = {"agent_ap": "AP_agent"}
    for s in (1, 2):
        names_of |= {f"role_ap_s{s}_25": f"AP_role_{s}", f"role_ap_s{s}_24": f"AP_role_{s} without point"}
    assert_same_figures(ours, names_of, theirs["metrics"])


def check_alignment(chosen: Knobs) -> None:
    rng = np.random.default_rng(chosen.seed)
    classes = [rng.normal(0, 1, (int(rng.integers(0, 5)), 1 + chosen.pairs % 5)) for _ in range(chosen.verbs)]
    evaluator = AlignmentEvaluator(chosen.verbs)
    for verb, features in enumerate(classes):
        evaluator.update(features.astype(np.float32), np.full(len(features), verb))
    for power in (1.0, 2.0):
        ours = evaluator.compute(t=power, alpha=power)
        theirs = alignment_uniformity([each.astype(np.float32) for each in classes], t=power, alpha=power)["metrics"]
        assert same(ours["uniformity"], theirs["uniformity"])
        assert same(ours["alignment"], theirs["alignment"])


@QUICK
@given(worlds("hico_det"))
def test_hico_det(world: World) -> None:
    check_hico(world)


@QUICK
@given(worlds("hico_det"))
def test_hico_det_with_the_person_filter(world: World) -> None:
    check_person_filter(world)


@QUICK
@given(worlds("v_coco"))
def test_v_coco_in_training(world: World) -> None:
    check_vcoco_training(world)


@QUICK
@example(make_world("open_images", TIED))
@given(worlds("open_images"))
def test_open_images_triplets(world: World) -> None:
    check_triplets(world)


@QUICK
@given(worlds("open_images"))
def test_open_images_predicates(world: World) -> None:
    check_predicates(world)


@settings(QUICK, max_examples=20)
@given(knobs)
def test_v_coco_official(chosen: Knobs) -> None:
    check_official(chosen)


@QUICK
@given(knobs)
def test_alignment_and_uniformity(chosen: Knobs) -> None:
    check_alignment(chosen)


DEEP: dict[str, tuple[int, st.SearchStrategy[Any], Callable[[Any], None]]] = {
    "HICO-DET, both protocols, suppression, Known-Object": (4000, worlds("hico_det"), check_hico),
    "HICO-DET, person filter": (2000, worlds("hico_det"), check_person_filter),
    "V-COCO in training": (4000, worlds("v_coco"), check_vcoco_training),
    "V-COCO official": (4000, knobs, check_official),
    "Open Images, triplets, repaired and as published": (3000, worlds("open_images"), check_triplets),
    "Open Images, predicates": (4000, worlds("open_images"), check_predicates),
    "alignment and uniformity": (2000, knobs, check_alignment),
}
"""Random cases by evaluator: how many, drawn from what, compared how."""


def test_there_are_ten_thousand_deep_cases_of_the_benchmarks() -> None:
    assert sum(count for name, (count, _, _) in DEEP.items() if name != "alignment and uniformity") >= 10_000


@pytest.mark.deep
@pytest.mark.parametrize("name", DEEP)
def test_ten_thousand_cases_without_a_difference(name: str) -> None:
    count, cases, check = DEEP[name]
    compared = 0

    @settings(QUICK, max_examples=count)
    @given(cases)
    def run(case: Any) -> None:
        nonlocal compared
        check(case)
        compared += 1

    run()
    assert compared >= count


def test_worlds_are_worth_comparing() -> None:
    """Right detections, ties and suppression do occur in the random worlds; otherwise the comparison would prove nothing."""
    right = dropped = tied = 0
    for seed in range(30):
        world = make_world("hico_det", Knobs(seed, 5, 3, 3, 12, 9, 5, 0.0, 1.0))
        evaluator = HicoDetEvaluator(world.truth, world.vocabulary, only=(HICO_MATLAB,))
        evaluator.update(world.batch)
        plain, nms = evaluator.compute()
        right += int(plain.tables[""].ranks.right.sum())
        dropped += int(plain.tables[""].ranks.detections.sum() - nms.tables[""].ranks.detections.sum())
        tied += sum(len(image.scores.reshape(-1)) - len(np.unique(image.scores)) for image in world.images)
    assert right > 30
    assert dropped > 100
    assert tied > 300
