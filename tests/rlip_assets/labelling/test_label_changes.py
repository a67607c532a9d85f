"""Changes of a re-tagging: counts on labels changed by hand, and what is kept from run to run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlip_assets.datasets.scenes import Scene, make_scene, write_scenes
from rlip_assets.labelling.tagging.changes import compare_labels, keep_labels, last_labels

BOXES = [(0, 0, 9, 9), (9, 9, 20, 20), (20, 20, 30, 30)]
Label = tuple[int, int, str]


def scene(image_id: str, labels: dict[Label, float], shift: float = 0.0) -> Scene:
    boxes = [tuple(value + shift for value in box) for box in BOXES]
    return make_scene(
        image_id, "coco", "train", "f", 40, 40, boxes, ["a", "b", "c"], list(labels), list(labels.values())
    )


def test_each_kind_of_change_is_counted() -> None:
    before = [
        scene("1", {(0, 1, "ride"): 0.5, (1, 2, "hold"): 0.5, (0, 2, "on"): 0.5}),
        scene("2", {(0, 1, "ride"): 0.5}),
        scene("3", {(0, 1, "ride"): 0.5}),
    ]
    now = [
        scene("1", {(0, 1, "ride"): 0.5, (1, 2, "hold"): 0.75, (2, 0, "on"): 0.5}),
        scene("2", {(0, 1, "ride"): 0.5}, shift=1),
        scene("4", {(0, 1, "chase"): 0.5}),
    ]
    found = compare_labels(before, now)
    assert {name: found[name] for name in ("added", "removed", "kept", "moved", "new_images", "lost_images")} == {
        "added": 3,
        "removed": 3,
        "kept": 2,
        "moved": 1,
        "new_images": 1,
        "lost_images": 1,
    }
    assert (found["mean_move"], found["largest_move"]) == (pytest.approx(0.125), pytest.approx(0.25))
    assert found["added_by_relation"] == {"chase": 1, "on": 1, "ride": 1}
    assert found["removed_by_relation"] == {"ride": 2, "on": 1}


LABELS = st.dictionaries(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from(["on", "hold"])), st.floats(0, 1, width=32)
)
STATES = st.dictionaries(st.sampled_from("abcd"), LABELS)


@given(STATES, STATES)
def test_added_minus_removed_is_the_difference_and_there_is_a_way_back(
    before: dict[str, dict[Label, float]], now: dict[str, dict[Label, float]]
) -> None:
    old, new = ([scene(key, labels) for key, labels in state.items()] for state in (before, now))
    there, back = compare_labels(old, new), compare_labels(new, old)
    totals = [sum(map(len, state.values())) for state in (before, now)]
    assert totals[0] - there["removed"] == there["kept"] == totals[1] - there["added"]
    assert (there["added"], there["removed"], there["moved"]) == (back["removed"], back["added"], back["moved"])
    same = compare_labels(new, new)
    assert (same["added"], same["removed"], same["moved"], same["kept"]) == (0, 0, 0, totals[1])


def test_a_resumed_run_is_compared_with_what_was_there_before_it(tmp_path: Path) -> None:
    tables = {}
    for number, state in enumerate("abc"):
        tables[state] = tmp_path / f"table-{state}"
        write_scenes(tables[state], [scene(state, {(0, 1, "ride"): number / 4})])
    kept = tmp_path / "last"

    def last(digest: str) -> str | None:
        found = last_labels(kept, digest)
        return found[0].image_id if found else None

    assert last("a") is None
    keep_labels(kept, "a", tables["a"])
    assert last("a") is None
    for _ in range(2):
        assert last("b") == "a"
        keep_labels(kept, "b", tables["b"])
    keep_labels(kept, "c", tables["c"])
    assert sorted(entry.name for entry in kept.iterdir()) == ["b", "c"]
    assert (last("c"), last("d")) == ("b", "c")
    (kept / "c" / "part-00000.parquet").write_text("damaged")
    assert last("d") is None
