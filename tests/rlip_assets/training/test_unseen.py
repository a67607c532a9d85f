"""Unseen combinations of a zero-shot split: none is read, and their images, pairs and cells are treated as the recipe says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from rlip_assets.datasets.scenes import Scene, make_scene, read_scenes, write_scenes
from rlip_assets.datasets.sources.classes import Classes, hico_classes, zero_shot_splits
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.storage.errors import DataError
from rlip_assets.training.batches import Batch, StepBatches
from rlip_assets.training.label_lists import FixedVocabulary, LabelList
from rlip_assets.training.loop import loss_config
from rlip_assets.training.training_images import ImageSource, training_images
from rlip_assets.training.unseen import (
    Unseen,
    combinations_with,
    triplet_texts,
    unseen_combinations,
    unseen_texts,
)
from rlip_model import RelationCriterion, Rlip
from tests.support.training_toys import OBJECTS, RELATIONS

CLASSES = Classes(
    dataset="hico_det",
    objects=["person", "cup", "dog"],
    relations=["hold", "walk"],
    hois=[(0, 1), (0, 2), (1, 2)],
    splits={"uc_rf": [2]},
)
TOYS = Classes(
    dataset="hico_det",
    objects=list(OBJECTS),
    relations=list(RELATIONS),
    hois=list(product(range(len(RELATIONS)), range(len(OBJECTS)))),
)
UNSEEN = (("hold", "dog"), ("chase", "dog"), ("left of", "cup"), ("stand", "dog"))
CLEAN = {"unseen_images": "drop_empty", "unseen_cells": "ignore"}
FORMS: dict[str, dict[str, Any]] = {
    "published": {},
    "clean": CLEAN,
    "as others do": {"unseen_images": "drop_empty", "unseen_pairs": "drop"},
    "removed texts": CLEAN | {"unseen_texts": "removed"},
}


def one_pair(number: int, labels: list[str], triplets: list[tuple[int, int, str]]) -> Scene:
    boxes = [(i, i, i + 5, i + 5) for i in range(len(labels))]
    return make_scene(number, "hico_det", "train", f"{number}.jpg", 20, 20, boxes, labels, triplets)


def hidden_from(recipe: Recipe, changes: dict[str, Any], classes: Classes = TOYS) -> tuple[Recipe, Unseen]:
    setting = recipe.changed({"benchmark": "hico_det", "unseen": UNSEEN, **changes})
    unseen = Unseen.of(setting, classes)
    assert unseen is not None
    return setting, unseen


def test_unseen_triplets_leave_and_the_image_stays(small_recipe: Recipe) -> None:
    _, unseen = hidden_from(small_recipe, {"unseen": "uc_rf"}, CLASSES)
    assert unseen.combinations == {("walk", "dog")}
    mixed = one_pair(0, ["person", "dog"], [(0, 1, "walk"), (0, 1, "hold"), (0, -1, "walk")])
    kept = unseen.visible(mixed)
    assert list(zip(kept.relation, kept.object.tolist(), strict=True)) == [("hold", 1), ("walk", -1)]
    alone = unseen.visible(one_pair(1, ["person", "dog"], [(0, 1, "walk")]))
    assert (len(alone.relation), len(alone.labels)) == (0, 2)


def test_a_pair_with_an_unseen_relation_stays_or_goes(small_recipe: Recipe) -> None:
    scene = one_pair(0, ["person", "dog", "dog"], [(0, 1, "walk"), (0, 1, "hold"), (0, 2, "hold")])
    for form, pairs in (("keep", [(0, 1), (0, 2)]), ("drop", [(0, 2)])):
        _, unseen = hidden_from(small_recipe, {"unseen": "uc_rf", "unseen_pairs": form}, CLASSES)
        kept = unseen.visible(scene)
        assert list(zip(kept.subject.tolist(), kept.object.tolist(), strict=True)) == pairs


def batches_of(source: ImageSource, recipe: Recipe, unseen: Unseen, cache: Path, part: str = "train") -> list[Batch]:
    train, held = training_images(recipe, [source], unseen, cache, seed=3)
    labels = LabelList(OBJECTS, RELATIONS).without(unseen.objects, unseen.relations)
    images = train if part == "train" else held
    steps = StepBatches(images, FixedVocabulary(labels, unseen.objects), recipe, 6, 3, unseen, training=part == "train")
    return [steps[number] for number in range(len(steps))]


def tensors(batch: Batch) -> list[torch.Tensor]:
    targets = [value for target in batch.targets for value in vars(target).values()]
    return [batch.images, batch.mask, *targets, *([] if batch.ignored is None else [batch.ignored])]


@pytest.mark.parametrize("part", ["train", "held out"])
@pytest.mark.parametrize("form", FORMS)
def test_whatever_an_unseen_label_says_batches_and_losses_are_the_same(
    drawn: Callable[..., ImageSource],
    small_recipe: Recipe,
    network: Callable[..., Rlip],
    tmp_path: Path,
    form: str,
    part: str,
) -> None:
    """Unseen labels become other unseen ones, texts that exist nowhere, or, where nothing depends on their being there, vanish."""
    setting, unseen = hidden_from(small_recipe, {"steps": 4, "pseudo": False, "holdout": 0.3, **FORMS[form]})
    source = drawn(number=24, triplets=2)
    scenes = list(read_scenes(source.tables[0]))
    hidden = [[texts in UNSEEN for texts in triplet_texts(scene)] for scene in scenes]
    assert 8 < sum(map(sum, hidden)) < 40
    others = {"dog": ("hold", "chase", "stand"), "cup": ("left of",)}

    def other_unseen(scene: Scene, row: int) -> str:
        return others[scene.labels[scene.object[row]]][row % len(others[scene.labels[scene.object[row]]])]

    variants: dict[str, list[Scene]] = {
        "other": [_with(scene, rows, other_unseen) for scene, rows in zip(scenes, hidden, strict=True)],
        "nonsense": [_with(scene, rows, lambda _, row: f"?{row}") for scene, rows in zip(scenes, hidden, strict=True)],
    }
    if form in ("clean", "removed texts"):
        kept = [[not each for each in rows] for rows in hidden]
        variants["gone"] = [_without(scene, rows) for scene, rows in zip(scenes, kept, strict=True)]
    expected = batches_of(source, setting, unseen, tmp_path / "c", part)
    assert sum(len(target) for batch in expected for target in batch.targets) > 0
    model, criterion = network(dropout=False).eval(), RelationCriterion(loss_config(setting))
    for name, changed in variants.items():
        write_scenes(tmp_path / name, changed)
        found = batches_of(replace(source, tables=(tmp_path / name,)), setting, unseen, tmp_path / "c", part)
        assert len(found) == len(expected)
        for batch, other in zip(expected, found, strict=True):
            assert batch.image_ids == other.image_ids
            assert batch.labels == other.labels
            torch.testing.assert_close(tensors(batch), tensors(other), atol=0, rtol=0)
        losses = []
        for batch in (expected[0], found[0]):
            pooled = torch.randn(len(batch.labels.texts), 32, generator=torch.Generator().manual_seed(1))
            with torch.no_grad():
                output = model(batch.images, batch.mask, pooled, batch.labels.num_objects)
                losses.append(
                    criterion(output, batch.targets, pooled, batch.labels.num_objects, batch.ignored).total.item()
                )
        assert losses[0] == losses[1]


def _with(scene: Scene, rows: list[bool], text: Callable[[Scene, int], str]) -> Scene:
    relations = [text(scene, row) if rows[row] else old for row, old in enumerate(scene.relation)]
    return replace(scene, relation=tuple(relations))


def _without(scene: Scene, kept: list[bool]) -> Scene:
    rows = [row for row, each in enumerate(kept) if each]
    return replace(
        scene,
        subject=scene.subject[rows],
        object=scene.object[rows],
        relation=tuple(scene.relation[row] for row in rows),
        confidence=scene.confidence[rows],
    )


def test_images_without_a_seen_triplet_train_as_background_or_are_left_out(
    drawn: Callable[..., ImageSource], small_recipe: Recipe, tmp_path: Path
) -> None:
    source = drawn(number=24, triplets=1)
    empty = [all(texts in UNSEEN for texts in triplet_texts(scene)) for scene in read_scenes(source.tables[0])]
    for form, number in (("keep", 24), ("drop_empty", 24 - sum(empty))):
        setting, unseen = hidden_from(small_recipe, {"unseen_images": form})
        images, _ = training_images(setting, [source], unseen, tmp_path / "c", seed=3)
        assert (len(images), images.emptied) == (number, 24 - number)
        assert images.epoch_images == number
    assert 0 < sum(empty) < 24


def test_a_source_without_training_images_says_what_left_them_out(
    drawn: Callable[..., ImageSource], small_recipe: Recipe, tmp_path: Path
) -> None:
    source = drawn(number=8, triplets=1)
    every = tuple(product(RELATIONS, OBJECTS))
    for changes, excluded, words in (
        (
            {"unseen": every},
            (),
            "drawn has unseen triplets alone in all 8 .*shorten unseen, or set unseen_images: keep",
        ),
        ({"holdout": 0.9999}, (), "drawn has no training image: holdout holds all 8 out; lower it"),
        ({}, (f"i{number}" for number in range(8)), "drawn shares all 8 training images with a benchmark's test split"),
    ):
        setting, unseen = hidden_from(small_recipe, {"unseen_images": "drop_empty", **changes})
        with pytest.raises(DataError, match=words):
            training_images(setting, [replace(source, excluded=frozenset(excluded))], unseen, tmp_path / "c", seed=3)


def test_ignored_cells_are_the_unseen_ones_of_the_label_list(small_recipe: Recipe) -> None:
    labels = LabelList(OBJECTS, RELATIONS)
    assert hidden_from(small_recipe, {})[1].ignored_cells(labels) is None
    cells = hidden_from(small_recipe, CLEAN)[1].ignored_cells(labels)
    assert cells is not None
    assert cells.shape == (len(OBJECTS) + 1, len(RELATIONS))
    found = {(RELATIONS[verb], OBJECTS[thing]) for thing, verb in cells.nonzero().tolist()}
    assert found == set(UNSEEN)


def test_an_unseen_combination_in_a_target_is_a_defect(
    drawn: Callable[..., ImageSource], small_recipe: Recipe, tmp_path: Path
) -> None:
    source = drawn(number=4, triplets=2)
    images, _ = training_images(small_recipe, [source], None, tmp_path / "c", seed=3)
    leak = (triplet_texts(images[0])[0],)
    recipe, unseen = hidden_from(small_recipe, {"unseen": leak, "augmentation": {"crop": 0.0}})
    labels = FixedVocabulary(LabelList(OBJECTS, RELATIONS))
    with pytest.raises(AssertionError, match="reached the training targets"):
        StepBatches(images, labels, recipe, 6, 3, unseen)[0]
    filtered, _ = training_images(recipe, [source], unseen, tmp_path / "c", seed=3)
    assert len(StepBatches(filtered, labels, recipe, 6, 3, unseen)[0].targets) == 4


def test_texts_of_unseen_combinations_alone() -> None:
    """A text that a seen combination has stays, and a triplet with a text that goes does not."""
    classes = CLASSES.model_copy(update={"hois": [(0, 1), (0, 2), (1, 2), (1, 0)], "splits": {"uo": [1, 2, 3]}})
    objects, relations = unseen_texts(classes, unseen_combinations(classes, "uo"))
    assert (objects, relations) == ({"dog", "person"}, {"walk"})
    assert combinations_with(classes, objects, relations) == {
        *(("hold", "dog"), ("hold", "person")),
        *(("walk", "person"), ("walk", "cup"), ("walk", "dog")),
    }
    assert unseen_texts(CLASSES, unseen_combinations(CLASSES, "uc_rf")) == (frozenset(), {"walk"})


def test_published_splits_are_at_hand_for_the_published_interactions() -> None:
    """Also in another order of classes; uo has twelve objects of its own, uv twenty verbs."""
    classes = hico_classes()
    assert all(len(zero_shot_splits(classes)[f"uc{number}"]) == 120 for number in range(5))
    texts = {split: unseen_texts(classes, unseen_combinations(classes, split)) for split in zero_shot_splits(classes)}
    assert texts["uc_rf"] == texts["uc_nf"] == (frozenset(), frozenset())
    assert len(texts["uo"][0]) == 12
    assert "person" not in texts["uo"][0]
    assert texts["uo"][1] == {"break", "brush with", "flip", "move", "slide"}
    assert len(texts["uv"][1]) == 20
    assert not texts["uv"][0]
    turned = classes.model_copy(update={"hois": list(reversed(classes.hois or [])), "splits": {}, "rare": []})
    for split in ("uc_nf", "uv", "uc3"):
        assert unseen_combinations(turned, split) == unseen_combinations(classes, split)
    assert zero_shot_splits(CLASSES) == {"uc_rf": [2]}


@pytest.mark.parametrize(
    ("unseen", "words"), [("uo", "no split 'uo'"), ([("hold", "dog"), ("ride", "dog")], r"no interaction \('ride'")]
)
def test_an_unknown_split_or_interaction_is_refused(unseen: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        unseen_combinations(CLASSES, unseen)
