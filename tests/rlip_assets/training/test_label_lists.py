"""Label lists of a step: positives first, negatives by frequency, no name twice."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlip_assets.datasets.scenes import make_scene
from rlip_assets.datasets.sources.classes import Classes, preset_classes
from rlip_assets.storage.errors import DataError
from rlip_assets.training.label_lists import (
    BatchVocabulary,
    FixedVocabulary,
    LabelList,
    NameSampler,
    benchmark_labels,
    fill_with_negatives,
)

SCENE = make_scene(
    "a", "d", "train", "a", 9, 9, [(0, 0, 4, 4), (1, 1, 5, 5)], ["man", "cup"], [(0, 1, "hold"), (1, 0, "near")]
)


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=30))
@settings(max_examples=25, deadline=None)
def test_alias_table_represents_the_frequencies_exactly(counts: list[int]) -> None:
    sampler = NameSampler({str(i): count for i, count in enumerate(counts)})
    mass = np.zeros(len(counts))
    np.add.at(mass, np.arange(len(counts)), sampler._threshold)
    np.add.at(mass, sampler._alias, 1 - sampler._threshold)
    assert mass / len(counts) == pytest.approx(np.array(counts) / sum(counts))


def test_draws_follow_the_frequencies() -> None:
    drawn = Counter(NameSampler({"a": 1, "b": 2, "c": 7}).draw(20_000, np.random.default_rng(0)))
    assert [drawn[name] / 20_000 for name in "abc"] == pytest.approx([0.1, 0.2, 0.7], abs=0.02)


@given(st.sets(st.sampled_from("abcdefgh")), st.integers(0, 12), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_negatives_fill_up_and_never_repeat(present: set[str], budget: int, seed: int) -> None:
    sampler = NameSampler(dict.fromkeys("cdefghij", 1))
    names = fill_with_negatives(sorted(present), budget, sampler, np.random.default_rng(seed))
    assert names[: len(present)] == tuple(sorted(present))
    assert len(set(names)) == len(names)
    assert len(names) == max(len(present), min(budget, len(present | set("cdefghij"))))


def test_published_shares_of_the_budget() -> None:
    many = NameSampler({f"n{i}": 1 for i in range(2000)})
    labels = BatchVocabulary(many, many, 500).labels([SCENE], np.random.default_rng(0))
    assert (len(labels.objects), len(labels.relations)) == (333, 167)
    assert labels.objects[:2] == ("man", "cup")
    assert labels.relations[:2] == ("hold", "near")
    assert labels.texts[labels.num_objects - 1] == "no objects"
    assert len(labels.texts) == 501


def test_a_list_longer_than_its_budget_stays() -> None:
    labels = BatchVocabulary(NameSampler({"x": 1}), NameSampler({"y": 1}), 2).labels([SCENE], np.random.default_rng(0))
    assert labels == LabelList(("man", "cup"), ("hold", "near"))


def test_guard_keeps_inflections_of_positives_out() -> None:
    sampler = NameSampler({"sits on": 5, "sitting on": 5, "is sitting on": 1, "under": 1})
    names = fill_with_negatives(["sit on"], 4, sampler, np.random.default_rng(0), guard=True)
    assert names == ("sit on", "under")


def test_fixed_vocabulary_refuses_a_foreign_label() -> None:
    vocabulary = FixedVocabulary(LabelList(("man",), ("hold", "near")))
    with pytest.raises(DataError, match="scene a of d has the label 'cup'"):
        vocabulary.labels([SCENE], np.random.default_rng(0))


def test_v_coco_has_a_label_for_missing_objects() -> None:
    labels = benchmark_labels(Classes(dataset="v_coco", objects=["person", "cup"], relations=["hold"]))
    assert labels.objects == ("person", "cup", "missing objects")
    assert labels.missing_label == 2
    assert labels.real_objects == ("person", "cup")


def test_open_vocabulary_is_no_benchmark() -> None:
    with pytest.raises(DataError, match="no closed list"):
        benchmark_labels(Classes(dataset="visual_genome", objects=[]))


def test_open_images_texts_are_read_in_the_form_that_the_network_learnt() -> None:
    """A class that is object and relation ("drink") has a name of either kind; labels stay those of the tables."""
    classes = Classes(
        dataset="open_images", objects=["sea turtle", "drink", "gizmo"], relations=["inside of", "drink", "at"]
    )
    cleaned, published = benchmark_labels(classes), benchmark_labels(classes, "published")
    assert cleaned.texts == ["sea turtle", "drink", "gizmo", "no objects", "inside of", "drink", "at"]
    assert published.texts == ["Sea turtle", "Drink", "gizmo", "no objects", "inside_of", "drink", "at"]
    assert (published.objects, published.relations) == (cleaned.objects, cleaned.relations)
    assert published.without({"drink"}, {"at"}).texts == ["Sea turtle", "gizmo", "no objects", "inside_of", "drink"]
    every = preset_classes("open_images")
    texts = benchmark_labels(every, "published").texts
    assert len(set(texts)) == len(every.objects) + 1 + len(every.relations or ())
    assert {"Musical keyboard", "interacts_with"} <= set(texts)
