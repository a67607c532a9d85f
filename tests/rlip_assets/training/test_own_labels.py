"""Own labels say what a setting's human labels do not, in the words of the benchmark, and no hidden annotation is read for them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlip_assets.datasets.scenes import Scene, make_scene, read_scenes, write_scenes
from rlip_assets.datasets.sources.classes import Classes
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.storage.errors import DataError
from rlip_assets.training.own_labels import OwnLabels
from rlip_assets.training.run_data import _own_labels
from rlip_assets.training.targets import pair_targets, ranked_pairs
from rlip_assets.training.training_images import ImageSource, SceneFilter, training_images
from rlip_assets.training.unseen import Unseen
from tests.support.label_factory import Log
from tests.support.training_toys import OBJECTS, RELATIONS

CLASSES = Classes(
    dataset="hico_det",
    objects=["person", "dog", "bench"],
    relations=["walk", "hold", "sit on"],
    hois=[(0, 1), (1, 1), (2, 2)],
    splits={"uc_rf": [0]},
)
LABELS = ["person", "dog", "bench", "person", "dog"]
BOXES = [(0, 0, 10, 20), (10, 10, 20, 20), (30, 10, 45, 20), (60, 0, 70, 20), (72, 10, 80, 20)]


def detected(number: int, triplets: list[tuple[int, int, str, float]], split: str = "train") -> Scene:
    """Two persons with a dog each and a bench, a pixel beside where annotators saw them."""
    boxes = np.array(BOXES, np.float32) + 1
    texts = [triplet[:3] for triplet in triplets]
    return make_scene(
        number, "hico_det", split, f"{number}.png", 90, 30, boxes, LABELS, texts, [t[3] for t in triplets]
    )


def annotated(number: int, triplets: list[tuple[int, int, str]], extra: tuple[tuple[int, ...], ...] = ()) -> Scene:
    boxes = [*BOXES[:3], *extra]
    labels = [*LABELS[:3], *["dog" for _ in extra]]
    return make_scene(number, "hico_det", "train", f"{number}.png", 90, 30, boxes, labels, triplets)


def unseen_of(split: str | None = "uc_rf", **changes: str) -> Unseen | None:
    recipe = Recipe(
        kind="finetune", model="micro_parseda", sources={"hico_det": 1.0}, benchmark="hico_det", own_labels="hico_det",
        unseen=split, batch_per_process=1, steps=1, **changes,
    )  # fmt: skip
    return Unseen.of(recipe, CLASSES)


def own_labels(folder: Path, scenes: list[Scene], unseen: Unseen | None = None, threshold: float = 0.2) -> OwnLabels:
    write_scenes(folder / "own", scenes)
    return OwnLabels([folder / "own"], folder / "cache", CLASSES, threshold, unseen)


def said(scene: Scene) -> list[tuple[int, int, str, float]]:
    rows = zip(scene.subject.tolist(), scene.object.tolist(), scene.relation, scene.confidence.tolist(), strict=True)
    return [(s, o, text, round(c, 3) if c == c else -1.0) for s, o, text, c in rows]


OWN = [
    (0, 1, "holding", 0.9),
    (0, 1, "walk", 0.8),
    (3, 4, "is walking with", 0.7),
    (3, 2, "sits on", 0.5),
    (3, 2, "hold", 0.9),
    (1, 2, "sit on", 0.9),
    (3, 4, "befriend", 0.9),
    (3, 4, "hold", 0.1),
]


def test_labels_are_in_the_words_of_the_benchmark_or_counted(tmp_path: Path) -> None:
    own = own_labels(tmp_path, [detected(1, OWN), detected(2, [])])
    found = own.alone(own.store[0])
    assert said(found) == [(0, 1, "hold", 0.9), (0, 1, "walk", 0.8), (3, 4, "walk", 0.7), (3, 2, "sit on", 0.5)]
    assert own.account() == {
        "images": 2,
        "used": 4,
        "other_interactions": 1,
        "other_subjects": 1,
        "unknown_verbs": 1,
        "below_threshold": 1,
        "texts_of_unknown_verbs": {"befriend": 1},
    }


def test_a_pair_that_people_labelled_keeps_their_word(tmp_path: Path) -> None:
    own = own_labels(tmp_path, [detected(1, OWN)])
    found = own.added(annotated(1, [(0, 1, "hold")]))
    assert found.labels == ("person", "dog", *LABELS)  # the bench of no triplet is gone
    assert said(found) == [(0, 1, "hold", -1.0), (5, 6, "walk", 0.7), (5, 4, "sit on", 0.5)]
    assert said(own.added(annotated(7, [(0, 1, "hold")]))) == [(0, 1, "hold", -1.0)]  # an image without own labels
    other = replace(annotated(1, [(0, 1, "hold")]), width=30, height=90)
    assert said(own.added(other)) == [(0, 1, "hold", -1.0)]  # boxes of the picture as it is stored otherwise


def test_hidden_combinations_are_said_by_captions_alone(tmp_path: Path) -> None:
    unseen = unseen_of()
    assert unseen is not None
    own = own_labels(tmp_path, [detected(1, OWN)], unseen)
    found = own.added(unseen.visible(annotated(1, [(0, 1, "hold"), (0, 1, "walk")])))
    # "walk" of the annotated pair has the confidence of its caption; annotators were heard about "hold".
    assert said(found) == [(0, 1, "hold", -1.0), (0, 1, "walk", 0.8), (5, 6, "walk", 0.7), (5, 4, "sit on", 0.5)]
    unseen.refuse(found)
    with pytest.raises(AssertionError, match="unseen combination"):
        unseen.refuse(annotated(1, [(0, 1, "walk")]))
    with pytest.raises(AssertionError, match="unseen combination"):
        replace(unseen, own_labels=False).refuse(found)


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 10), st.integers(5, 20), st.integers(5, 20)), max_size=4),
    st.sampled_from(["walk", "nonsense", "walks"]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_whatever_hidden_annotations_say_the_scene_is_the_same(
    own_table: Path, hidden: list[tuple[int, ...]], text: str, beside: bool
) -> None:
    """Boxes and verbs of hidden triplets change nothing, not even which boxes there are."""
    unseen = unseen_of()
    assert unseen is not None
    own = OwnLabels([own_table / "own"], own_table / "cache", CLASSES, 0.2, unseen)
    boxes = tuple((x, y, x + w, y + h) for x, y, w, h in hidden)
    triplets = [(0, 3 + number, text) for number in range(len(boxes))] + [(0, 1, text)] * beside
    changed = annotated(1, [*triplets, (0, 1, "hold")], boxes)
    assert own.added(unseen.visible(changed)) == own.added(unseen.visible(annotated(1, [(0, 1, "hold")])))


@pytest.fixture(scope="module")
def own_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    own_labels(folder, [detected(1, OWN)])
    return folder


def test_removed_texts_stay_removed(tmp_path: Path) -> None:
    unseen = unseen_of(unseen_texts="removed")
    assert unseen is not None
    assert unseen.relations == {"walk"}
    own = own_labels(tmp_path, [detected(1, OWN)], unseen)
    assert [text for _, _, text, _ in said(own.alone(own.store[0]))] == ["hold", "sit on"]


def test_labels_of_test_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="outside the training split of hico_det"):
        own_labels(tmp_path, [detected(1, OWN), detected(2, OWN, "test")])


@pytest.mark.parametrize(("label", "lines"), [((0, 1, "hold", 0.9), 0), ((0, 1, "hold", 0.1), 1)])
def test_a_training_without_any_own_label_says_so(
    tmp_path: Path, label: tuple[int, int, str, float], lines: int
) -> None:
    write_scenes(tmp_path / "labels/bucket-0", [detected(1, [label]), detected(2, [])])
    recipe = Recipe(
        kind="finetune", model="micro_parseda", sources={"hico_det": 1.0}, benchmark="hico_det", own_labels="hico_det",
        relation_threshold=0.2, batch_per_process=1, steps=1,
    )  # fmt: skip
    inputs, log = {"pseudo_labels/hico_det": tmp_path / "labels"}, Log()
    ctx = StageContext("finetune", "own", Params(), inputs, {}, tmp_path / "work/finetune/digest", log)
    assert _own_labels(ctx, recipe, CLASSES, None) is not None
    assert len(log.lines) == lines
    assert all("none of the own labels of 2 images is an interaction of hico_det" in line for line in log.lines)


def few_shot(tmp_path: Path, human: list[Scene], own: OwnLabels, listed: str, **changes: object):  # type: ignore[no-untyped-def]
    write_scenes(tmp_path / "human", human)
    (tmp_path / "list.txt").write_text(listed)
    recipe = Recipe(
        kind="finetune", model="micro_parseda", sources={"hico_det": 4.0}, benchmark="hico_det", own_labels="hico_det",
        own_images=0.5, image_list="list.txt", relation_threshold=0.2, batch_per_process=1, steps=1, **changes,
    )  # fmt: skip
    source = ImageSource("hico_det", (tmp_path / "human",), tmp_path)
    return training_images(recipe, [source], None, tmp_path / "cache", 3, tmp_path / "list.txt", own)


def test_images_outside_a_few_shot_share_have_own_labels_alone(tmp_path: Path) -> None:
    own = own_labels(tmp_path, [detected(number, OWN[:4] if number % 2 else []) for number in range(12)])
    human = [annotated(number, [(0, 1, "hold")]) for number in range(12)]
    train, held = few_shot(tmp_path, human, own, "3.png\n2.png\n", holdout=0.2)
    inside = {scene.image_id: said(scene) for scene in list(train)[:2]}
    assert inside["3"] == [(0, 1, "hold", -1.0), (5, 6, "walk", 0.7), (5, 4, "sit on", 0.5)]
    assert inside["2"] == [(0, 1, "hold", -1.0)]
    outside = list(train)[2:]
    assert train.own_alone == len(outside)
    assert outside
    assert all(not np.isnan(scene.confidence).any() and scene.labels == tuple(LABELS) for scene in outside)
    held_ids = {scene.image_id for scene in held}
    assert held_ids == {"1", "6"}
    assert {scene.image_id for scene in outside} == {"1", "5", "7", "9", "11"} - held_ids
    assert not any((scene.confidence == scene.confidence).any() for scene in held)  # judged by people alone
    assert train.epoch_images == 8 + round(len(outside) / 2)
    assert len(train.epoch_order(0, 0)) == train.epoch_images
    assert [scene.image_id for scene in pickle.loads(pickle.dumps(train))] == [scene.image_id for scene in train]
    assert train.image_path(len(train) - 1, outside[-1]) == tmp_path / outside[-1].file_name
    # Whatever annotators said of the others, training is the same.
    again = [
        scene if scene.image_id in ("2", "3") else annotated(int(scene.image_id), [(0, 2, "sit on")]) for scene in human
    ]
    (tmp_path / "second").mkdir()
    other, _ = few_shot(tmp_path / "second", again, own, "3.png\n2.png\n", holdout=0.2)
    assert list(other) == list(train)


def test_listed_images_are_trained_on_and_not_held_out(tmp_path: Path) -> None:
    own = own_labels(tmp_path, [detected(1, OWN)])
    human = [annotated(number, [(0, 1, "hold")]) for number in range(12)]
    train, held = few_shot(tmp_path, human, own, "1.png\n2.png\n", holdout=0.2)
    assert [scene.image_id for scene in train] == ["1", "2"]
    assert [scene.image_id for scene in held] == ["6"]  # 1 and 6 are in the share by their ids


def test_soft_labels_weigh_their_confidence(tmp_path: Path) -> None:
    from rlip_assets.training.label_lists import benchmark_labels

    own = own_labels(tmp_path, [detected(1, OWN)])
    scene = own.added(annotated(1, [(0, 1, "hold")]))
    targets = pair_targets(scene, ranked_pairs(scene), benchmark_labels(CLASSES), confidence_weight=True)
    np.testing.assert_allclose(targets.relations.numpy(), np.array([[0, 1, 0], [0.7, 0, 0], [0, 0, 0.5]]), atol=1e-6)


def test_a_few_shot_share_is_chosen_by_human_labels(
    drawn: Callable[..., ImageSource], small_recipe: Recipe, tmp_path: Path
) -> None:
    source = drawn(name="hico_det", number=24, triplets=2)
    scenes = list(read_scenes(source.tables[0]))
    pseudo = [replace(scene, confidence=np.full(len(scene.relation), 0.9, np.float32)) for scene in scenes]
    write_scenes(tmp_path / "pseudo", pseudo)
    classes = Classes(
        dataset="hico_det", objects=list(OBJECTS), relations=list(RELATIONS), hois=[(r, o) for r in range(4) for o in range(4)]
    )  # fmt: skip
    own = OwnLabels([tmp_path / "pseudo"], tmp_path / "c", classes, 0.0, None)
    changes = {"kind": "finetune", "sources": {"hico_det": 1.0}, "benchmark": "hico_det", "share": 0.5}
    plain = small_recipe.changed(changes)
    without, _ = training_images(plain, [source], None, tmp_path / "c", seed=3)
    with_own, _ = training_images(
        plain.changed({"own_labels": "hico_det"}), [source], None, tmp_path / "c", seed=3, own=own
    )
    assert [scene.image_id for scene in with_own][: len(without)] == [scene.image_id for scene in without]
    assert len(with_own) == 24
    assert isinstance(with_own._filter, SceneFilter)
