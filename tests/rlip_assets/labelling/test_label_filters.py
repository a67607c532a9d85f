"""Filters on labels, as pure functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rlip_assets.datasets.scenes import SceneStore, check_scene, make_scene, write_scenes
from rlip_assets.labelling.tagging.filters import Labels, at_least, deduplicate, overlapping, top_k
from rlip_assets.labelling.tagging.stage import filtered, labelled
from rlip_assets.lineage.params.labels import TaggingParams

ROWS = [
    (0, 1, "ride", 0.5),
    (0, 1, "on", 0.9),
    (1, 0, "ride", 0.2),
    (0, 1, "ride", 0.7),
    (0, 1, "ride", 0.7),
    (0, 2, "on", 0.5),
]
BOXES = [(0, 0, 10, 10), (5, 5, 20, 20), (10, 0, 15, 10)]


def labels(rows: list[tuple[int, int, str, float]]) -> Labels:
    return Labels.of(*(zip(*rows, strict=True) if rows else [(), (), (), ()]))


def rows(found: Labels) -> list[tuple[int, int, str, float]]:
    return [
        (s, o, r, round(float(c), 3))
        for s, o, r, c in zip(
            found.subject.tolist(), found.object.tolist(), found.relation, found.confidence, strict=True
        )
    ]


def test_duplicates_keep_the_highest_confidence_once() -> None:
    assert rows(deduplicate(labels(ROWS))) == [
        (0, 1, "on", 0.9),
        (0, 1, "ride", 0.7),
        (0, 2, "on", 0.5),
        (1, 0, "ride", 0.2),
    ]


def test_published_groups_count_a_label_each_time(tmp_path: Path) -> None:
    scene = make_scene("1", "d", "train", "f", 30, 30, BOXES, ["a", "b", "c"])
    counts = []
    for groups in ("union", "published"):
        found = filtered(labels(ROWS), scene, TaggingParams.model_validate({"groups": groups}))
        write_scenes(tmp_path / groups, [labelled(scene, found)])
        counts.append(SceneStore.open([tmp_path / groups], tmp_path / "cache").relation_counts())
    assert counts == [{"ride": 2, "on": 2}, {"ride": 4, "on": 2}]


def test_top_k_counts_ordered_pairs() -> None:
    assert rows(top_k(labels(ROWS), 1)) == [(0, 1, "on", 0.9), (0, 2, "on", 0.5), (1, 0, "ride", 0.2)]
    assert len(top_k(labels(ROWS), None)) == len(ROWS)


def test_thresholds_are_inclusive_in_float32() -> None:
    assert len(at_least(labels(ROWS), 0.7)) == 3
    assert len(at_least(labels([(0, 1, "x", 0.05)]), 0.05)) == 1


def test_boxes_that_touch_do_not_overlap() -> None:
    found = overlapping(labels(ROWS), np.array(BOXES, np.float32))
    assert {(s, o) for s, o, _, _ in rows(found)} == {(0, 1), (1, 0)}


triplets = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from("ab"), st.floats(0, 1, width=32)), max_size=12
)


@settings(deadline=None)
@given(triplets, st.floats(0, 1), st.integers(1, 3))
def test_filters_only_remove_and_give_the_same_twice(
    drawn: list[tuple[int, int, str, float]], threshold: float, k: int
) -> None:
    scene = make_scene("1", "d", "train", "f", 30, 30, BOXES, ["a", "b", "c"])
    params = TaggingParams(store_threshold=threshold, top_k=k, overlap_filter=True)
    once = filtered(labels(drawn), scene, params)
    assert rows(filtered(once, scene, params)) == rows(once)
    assert set(rows(once)) <= set(rows(labels(drawn)))
    assert rows(once) == rows(filtered(labels(drawn[::-1]), scene, params))
    assert (np.diff(once.confidence) <= 0).all()
    check_scene(labelled(scene, once))
