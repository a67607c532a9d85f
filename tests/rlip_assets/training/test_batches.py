"""Batches are functions of seed and step; targets hold exactly what the scenes say."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlip_assets.datasets.scenes import make_scene, write_scenes
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.storage.errors import DataError, UnavailableError, explain
from rlip_assets.storage.images import open_image
from rlip_assets.training.batches import Part, StepBatches
from rlip_assets.training.label_lists import BatchVocabulary, FixedVocabulary, LabelList, NameSampler
from rlip_assets.training.loading import load
from rlip_assets.training.targets import pair_targets, ranked_pairs, tagger_pairs
from rlip_assets.training.training_images import ImageSource, SceneFilter, TrainingImages, training_images
from rlip_model.vision.images import stack_images
from tests.support.training_toys import OBJECTS, RELATIONS, draw_scene

SLOTS = 6
FULL = LabelList(OBJECTS, RELATIONS)


def batches_of(source: ImageSource, recipe: Recipe, cache: Path, **options: object) -> StepBatches:
    images, _ = training_images(recipe, [source], None, cache, seed=3)
    objects, relations = NameSampler(images.object_counts()), NameSampler(images.relation_counts())
    vocabulary = BatchVocabulary(objects, relations, recipe.label_budget)
    return StepBatches(images, vocabulary, recipe, SLOTS, 3, **options)  # type: ignore[arg-type]


def test_same_step_same_batch_in_any_order_and_in_workers(
    drawn: Callable[..., ImageSource], small_recipe: Recipe, tmp_path: Path
) -> None:
    first = batches_of(drawn(), small_recipe, tmp_path / "c")
    forward = [first[step] for step in range(len(first))]
    again = batches_of(drawn(), small_recipe, tmp_path / "c")
    loader = torch.utils.data.DataLoader(again, batch_size=None, sampler=range(len(again) - 1, -1, -1), num_workers=2)
    for batch in loader:
        other = forward[batch.step]
        assert batch.labels == other.labels
        assert torch.equal(batch.images, other.images)
        assert batch.image_ids == other.image_ids


def test_parts_share_one_label_list_and_split_the_images(
    drawn: Callable[..., ImageSource], small_recipe: Recipe, tmp_path: Path
) -> None:
    source = drawn()
    whole = batches_of(source, small_recipe, tmp_path / "c")[2]
    parts = [batches_of(source, small_recipe, tmp_path / "c", part=Part(index, 2))[2] for index in range(2)]
    assert [part.labels for part in parts] == [whole.labels] * 2
    assert sorted(parts[0].image_ids + parts[1].image_ids) == sorted(whole.image_ids)
    published = small_recipe.changed({"published": {"part_counts": True}})
    own = [batches_of(source, published, tmp_path / "c", part=Part(index, 2))[2] for index in range(2)]
    assert own[0].labels != own[1].labels


def test_every_image_is_seen_once_an_epoch(
    drawn: Callable[..., ImageSource], small_recipe: Recipe, tmp_path: Path
) -> None:
    batches = batches_of(drawn(number=16), small_recipe.changed({"epochs": 2}), tmp_path / "c")
    assert len(batches.images) == 12  # four of the sixteen have no triplet
    assert len(batches) == 6
    for epoch in range(2):
        seen = [index for step in range(3) for index in batches.indices(3 * epoch + step)]
        assert sorted(seen) == list(range(12))
    assert batches.indices(0) != batches.indices(3)


def test_weights_and_threshold_of_sources(
    drawn: Callable[..., ImageSource], small_recipe: Recipe, tmp_path: Path
) -> None:
    human, pseudo = drawn("human", 8, triplets=2), drawn("pseudo", 8, triplets=2, pseudo=True, first=20)
    images = TrainingImages([human, pseudo], {"human": 2.5, "pseudo": 0.5}, SceneFilter(0.2), tmp_path / "c")
    assert [len(images[index].relation) for index in (0, 8)] == [2, 1]  # confidences of the second are 0.1 and 0.3
    assert images.relation_counts().total() == 24
    order = images.epoch_order(3, 0)
    counts = np.bincount(order, minlength=16)
    assert counts[:8].sum() == 20
    assert counts[8:].sum() == 4
    assert set(counts[:8]) == {2, 3}
    none_left = pytest.raises(DataError, match="pseudo has no training image with a relation")
    with none_left:
        TrainingImages([pseudo], {"pseudo": 1.0}, SceneFilter(0.9), tmp_path / "c")


def test_excluded_images_neither_train_nor_are_held_out(
    drawn: Callable[..., ImageSource], small_recipe: Recipe, tmp_path: Path
) -> None:
    other = drawn("other", 8, triplets=1)
    source = replace(drawn(number=40, triplets=1), excluded=frozenset({"i3", "i7", "of another bucket"}))
    recipe = small_recipe.changed({"holdout": 0.2, "sources": {"drawn": 1.0, "other": 1.0}})
    parts = training_images(recipe, [source, other], None, tmp_path / "c", 3)
    keys = {key for images in parts for key in images.image_keys()}
    assert len(keys) == 46
    assert not {("drawn", "i3"), ("drawn", "i7")} & keys
    assert {("other", "i3"), ("other", "i7")} <= keys
    assert sum(images.excluded for images in parts) == 2


def test_holdout_is_disjoint_and_test_images_never_train(
    drawn: Callable[..., ImageSource], small_recipe: Recipe, tmp_path: Path
) -> None:
    source = drawn(number=60, triplets=1)
    scenes = [replace(draw_scene(i, source.image_root, 1), split="test" if i % 3 == 0 else "train") for i in range(60)]
    write_scenes(tmp_path / "mixed", scenes)
    mixed = ImageSource("drawn", (tmp_path / "mixed",), source.image_root)
    train, held = training_images(small_recipe.changed({"holdout": 0.2}), [mixed], None, tmp_path / "c", 3)
    names = [{images[index].image_id for index in range(len(images))} for images in (train, held)]
    assert len(names[0] | names[1]) == 40
    assert not names[0] & names[1]
    assert names[1]
    assert not {f"i{i}" for i in range(0, 60, 3)} & (names[0] | names[1])


def test_images_of_the_split_val_train_where_a_source_says_so(
    drawn: Callable[..., ImageSource], small_recipe: Recipe, tmp_path: Path
) -> None:
    """Names to draw negatives from are counted on the same images."""
    source = drawn(number=6, triplets=1)
    scenes = [replace(draw_scene(i, source.image_root, 1), split=("train", "val", "test")[i % 3]) for i in range(6)]
    write_scenes(tmp_path / "mixed", scenes)
    for splits, number in ((("train",), 2), (("train", "val"), 4)):
        mixed = replace(source, tables=(tmp_path / "mixed",), splits=splits)
        train, _ = training_images(small_recipe, [mixed], None, tmp_path / "c", 3)
        assert len(train) == train.relation_counts().total() == number
        assert {scene.split for scene in train} == set(splits)
        assert train.object_counts().total() == sum(len(scene.labels) for scene in train)


def test_targets_of_a_scene() -> None:
    boxes = [(0, 0, 10, 20), (10, 10, 30, 20), (5, 5, 15, 15)]
    triplets = [(0, 1, "hold"), (2, 0, "chase"), (0, 1, "left of"), (0, -1, "stand")]
    scene = make_scene("a", "d", "train", "a", 40, 20, boxes, ["person", "cup", "dog"], triplets, [0.3, 0.9, 0.5, 0.4])
    assert ranked_pairs(scene) == [(2, 0), (0, 1), (0, -1)]
    target = pair_targets(scene, ranked_pairs(scene), FULL)
    assert target.sub_labels.tolist() == [2, 0, 0]
    assert target.obj_labels.tolist() == [0, 1, 0]
    assert target.relations.tolist() == [[0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1]]
    assert target.sub_boxes[1].tolist() == pytest.approx([5 / 40, 10 / 20, 10 / 40, 1])
    assert target.obj_boxes[2].tolist() == [0, 0, 0, 0]
    weighed = pair_targets(scene, ranked_pairs(scene), FULL, confidence_weight=True)
    assert weighed.relations[1].tolist() == pytest.approx([0.3, 0.5, 0, 0])
    assert pair_targets(scene, [(0, 1)], FULL, subject_label=1).sub_labels.tolist() == [1]


@pytest.mark.parametrize(("benchmark", "bicycles"), [("hico_det", True), ("v_coco", True), ("open_images", False)])
def test_subjects_are_bicycles_where_the_published_ones_were(
    drawn: Callable[..., ImageSource], small_recipe: Recipe, tmp_path: Path, benchmark: str, bicycles: bool
) -> None:
    recipe = small_recipe.changed({"benchmark": benchmark})
    quirk = recipe.changed({"published": {"bicycle_subjects": True}})
    source = drawn()
    ours, theirs = (
        torch.cat([target.sub_labels for target in batches_of(source, each, tmp_path / "c")[2].targets])
        for each in (recipe, quirk)
    )
    assert set(ours.tolist()) - {1}
    assert torch.equal(theirs, torch.ones_like(theirs) if bicycles else ours)


def test_mirrored_images_keep_their_texts_as_published(
    drawn: Callable[..., ImageSource], small_recipe: Recipe, tmp_path: Path
) -> None:
    """Otherwise the list of a step also has the texts as they read in the mirror."""
    source = drawn()
    recipe = small_recipe.changed({"label_budget": 1})
    unchanged = recipe.changed({"published": {"unchanged_sides": True}})
    lists = [
        [batches_of(source, each, tmp_path / "c")[step].labels for step in range(3)] for each in (recipe, unchanged)
    ]
    ours, theirs = ({text for labels in each for text in labels.relations} for each in lists)
    assert "left of" in theirs
    assert "right of" not in theirs
    assert {"left of", "right of"} <= ours


def test_inflections_of_a_relation_are_positives_together_or_apart() -> None:
    triplets = [(0, 1, "riding"), (1, 0, "lies on")]
    scene = make_scene("a", "d", "train", "a", 40, 20, [(0, 0, 9, 9), (1, 1, 9, 9)], ["man", "dog"], triplets)
    labels = LabelList(("man", "dog"), ("riding", "ride", "lying on", "rides", "riding on", "lies on"))
    apart = pair_targets(scene, [(0, 1), (1, 0)], labels).relations
    together = pair_targets(scene, [(0, 1), (1, 0)], labels, share_inflections=True).relations
    assert apart.tolist() == [[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]]
    assert together.tolist() == [[1, 1, 0, 1, 0, 0], [0, 0, 1, 0, 0, 1]]


def test_human_triplets_come_before_pseudo_ones_when_slots_are_short() -> None:
    boxes = [(i, 0, i + 5, 5) for i in range(4)]
    scene = make_scene(
        "a",
        "d",
        "train",
        "a",
        40,
        20,
        boxes,
        ["cup"] * 4,
        [(0, 1, "hold"), (1, 2, "hold"), (2, 3, "hold")],
        [0.9, float("nan"), 0.95],
    )
    assert ranked_pairs(scene) == [(1, 2), (2, 3), (0, 1)]


def test_triplets_beyond_the_pairs_are_cut_and_counted_the_surest_stay(
    drawn: Callable[..., ImageSource], small_recipe: Recipe, tmp_path: Path
) -> None:
    """Pseudo labels of confidence 0.1, 0.3 and 0.5 on three pairs, and a network of two."""
    images, _ = training_images(small_recipe, [drawn(triplets=3, pseudo=True)], None, tmp_path / "c", seed=3)
    uncropped = small_recipe.changed({"augmentation": {"crop": 0.0, "flip": 0.0}})
    batches = StepBatches(images, FixedVocabulary(FULL), uncropped, 2, 3)
    batch = batches[0]
    assert batch.cut_pairs == 4
    for place, target in enumerate(batch.targets):
        scene = images[batches.indices(0)[place]]
        kept = [FULL.relation_index[scene.relation[row]] for row in (2, 1)]
        assert target.relations.argmax(1).tolist() == kept


@pytest.mark.parametrize(("kind", "rows"), [("mixed", [1, 0]), ("single", [2, 1, 0]), ("benchmark", [0])])
def test_what_exceeds_the_network_is_cut_in_file_order_as_published(
    drawn: Callable[..., ImageSource], small_recipe: Recipe, tmp_path: Path, kind: str, rows: list[int]
) -> None:
    """Mixed pre-training cuts relations beyond the pairs, a single source those beyond the queries, fine-tuning boxes beyond them.

    Every image has four boxes and pseudo labels of confidence 0.1, 0.3 and 0.5, from the first box to each other one.
    """
    images, _ = training_images(small_recipe, [drawn(triplets=3, pseudo=True)], None, tmp_path / "c", seed=3)
    cases: dict[str, dict[str, Any]] = {
        "mixed": {"sources": {"drawn": 1.0, "other": 1.0}},
        "single": {},
        "benchmark": {"benchmark": "open_images"},
    }
    recipe = small_recipe.changed(
        {"augmentation": {"crop": 0.0, "flip": 0.0}, "published": {"file_order": True}, **cases[kind]}
    )
    batches = StepBatches(images, FixedVocabulary(FULL), recipe, 1 if kind == "benchmark" else 2, 3)
    batch = batches[0]
    assert batch.cut_pairs == 4 * (kind == "single")
    for place, target in enumerate(batch.targets):
        scene = images[batches.indices(0)[place]]
        assert target.relations.argmax(1).tolist() == [FULL.relation_index[scene.relation[row]] for row in rows]


def test_images_without_triplets_are_dropped_or_train_as_background(
    drawn: Callable[..., ImageSource], small_recipe: Recipe, tmp_path: Path
) -> None:
    source = drawn(number=16)  # four of the sixteen have no triplet
    kept = small_recipe.changed({"images_without_triplets": "kept", "epochs": 2})
    dropped, all_images = (batches_of(source, recipe, tmp_path / "c") for recipe in (small_recipe, kept))
    assert (dropped.steps_per_epoch, all_images.steps_per_epoch) == (3, 4)
    batches = [all_images[step] for step in range(4)]
    assert sum(len(target) == 0 for batch in batches for target in batch.targets) >= 4
    assert {name for batch in batches for name in batch.image_ids} == {f"i{number}" for number in range(16)}


def test_tagger_pairs_hold_all_positives_and_fill_up() -> None:
    boxes = [(i, 0, i + 5, 5) for i in range(4)]
    scene = make_scene(
        "a", "d", "train", "a", 40, 20, boxes, ["cup"] * 4, [(0, 1, "hold"), (2, 1, "hold"), (0, -1, "stand")]
    )
    pairs = tagger_pairs(scene, 8, np.random.default_rng(0))
    assert pairs[:2] == [(0, 1), (2, 1)]
    assert len(set(pairs)) == 8
    assert all(i != j for i, j in pairs)
    assert len(tagger_pairs(scene, 100, np.random.default_rng(0))) == 12
    assert set(tagger_pairs(scene, 1, np.random.default_rng(0))) < {(0, 1), (2, 1)}


def test_tagger_batch_has_clean_targets_and_noisy_queries(
    drawn: Callable[..., ImageSource], small_recipe: Recipe, tmp_path: Path
) -> None:
    tagger = small_recipe.changed(
        {"kind": "tagger", "pseudo": False, "quality": False, "label_noise": 0.5, "pairs_per_image": SLOTS}
    )
    batches = batches_of(drawn(), tagger, tmp_path / "c")
    batch = batches[0]
    assert batch.pairs is not None
    for row, target in enumerate(batch.targets):
        count = int(batch.pairs.valid[row].sum())
        assert count == len(target) <= SLOTS
        assert not torch.equal(batch.pairs.sub_boxes[row, :count], target.sub_boxes)
        assert int(batch.pairs.sub_labels.max()) < len(batch.labels.objects)
    plain = batches_of(drawn(), tagger, tmp_path / "c", training=False)[0]
    assert plain.pairs is not None
    assert torch.equal(plain.pairs.sub_boxes[0, : len(plain.targets[0])], plain.targets[0].sub_boxes)


def test_padding_is_marked() -> None:
    images, mask = stack_images([torch.ones(3, 2, 5), torch.ones(3, 4, 3)])
    assert images.shape == (2, 3, 4, 5)
    assert torch.equal(images.sum(1) == 0, mask)


def test_unreadable_images_are_counted_and_a_wholly_unreadable_step_stops(
    drawn: Callable[..., ImageSource], small_recipe: Recipe, tmp_path: Path
) -> None:
    source = drawn(number=4, triplets=1)
    batches = batches_of(source, small_recipe, tmp_path / "c")
    (source.image_root / "0001.png").write_bytes(b"not an image")
    batch = batches[0]
    assert len(batch.image_ids) == len(batch.targets) == 3
    assert [Path(name).name for name in batch.skipped] == ["0001.png"]
    for file in source.image_root.iterdir():
        file.write_bytes(b"not an image")
    with pytest.raises(DataError, match="no image of step 0 can be read"):
        batches[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_failure_of_the_machine_ends_a_training(
    workers: int,
    drawn: Callable[..., ImageSource],
    small_recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With other pixels, it would end with other weights. A worker process says it in the same sentence as this one."""
    source, mounted = drawn("coco", number=4, triplets=1), drawn("nas", number=4, triplets=1, first=20)
    images = TrainingImages([source, mounted], {"coco": 1.0, "nas": 1.0}, SceneFilter(), tmp_path / "c")
    batches = StepBatches(images, FixedVocabulary(FULL), small_recipe, SLOTS, 3)
    read = open_image

    def fail(path: Path, *rest: Any) -> Any:
        if path.name == "0001.png":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return read(path, *rest)

    with monkeypatch.context() as broken:
        broken.setattr("rlip_assets.training.batches.open_image", fail)
        with pytest.raises(OSError, match="Input/output error") as caught:
            list(load(batches, batch_size=None, num_workers=workers))
    assert (
        explain(caught.value)
        == f"{source.image_root / '0001.png'}: Input/output error; check the disk; if this file alone is lost, remove it to leave it out"
    )
    for file in mounted.image_root.iterdir():
        file.unlink()
    with pytest.raises(UnavailableError, match=f"^{mounted.image_root} is missing or empty, though its images were"):
        list(load(batches, batch_size=None, num_workers=workers))
