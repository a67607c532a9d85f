"""Labels are compared with those before them: the runner remembers, the distances are those of the definition, the limits decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlip_assets.labelling.drift import Drift
from rlip_assets.lineage.history import manifest_before, remember
from rlip_assets.lineage.params.labels import DriftParams

COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 50), min_size=1)


def figures(labels: int, deciles: list[int], relations: dict[str, int], images: int = 100) -> dict[str, Any]:
    return {"images": images, "labels": labels, "confidence_deciles": deciles, "by_relation": relations}


def test_distances_by_hand() -> None:
    before = figures(200, [0, 50, 150], {"ride": 100, "near": 100})
    now = figures(150, [0, 75, 75], {"ride": 150}, images=50)
    drift = Drift.between(before, now, "labels")
    assert (drift.yields, drift.confidence, drift.relations) == pytest.approx((0.5, 0.25, 0.5))
    assert drift.judge(DriftParams(yields=0.5, confidence=0.25, relations=0.5))[0]
    passed, words = drift.judge(DriftParams(yields=0.4, confidence=0.25, relations=0.5))
    assert not passed
    assert words == "yield +0.500 (limit 0.4), confidence 0.250 (limit 0.25), relations 0.500 (limit 0.5)"


def test_fewer_labels_drift_too_and_what_is_unknown_does_not() -> None:
    fewer = Drift.between(figures(200, [], {}), figures(100, [], {}), "labels")
    assert (fewer.yields, fewer.confidence, fewer.relations) == (-0.5, None, None)
    assert not fewer.judge(DriftParams(yields=0.4))[0]
    assert Drift.between({}, figures(1, [1], {"a": 1}), "labels").judge(DriftParams(yields=0))[0]
    assert Drift.between(figures(0, [0], {"a": 1}), figures(1, [0], {"b": 0}), "labels").relations == 1


@given(COUNTS, COUNTS, st.integers(1, 9))
def test_distances_are_symmetric_bounded_and_zero_for_equal_shares(
    first: dict[str, int], second: dict[str, int], times: int
) -> None:
    def distance(a: dict[str, int], b: dict[str, int]) -> float:
        found = Drift.between({"by_relation": a}, {"by_relation": b}, "labels").relations
        assert found is not None
        return found

    assert distance(first, second) == pytest.approx(distance(second, first))
    assert 0 <= distance(first, second) <= 1 + 1e-9
    assert distance(first, {key: times * count for key, count in first.items()}) == pytest.approx(0)
    assert distance({"a": 1}, {"b": times}) == 1


def test_the_last_two_different_results_are_remembered(tmp_path: Path) -> None:
    results = [{"stage": "pseudo_labels", "partition": "coco-0", "figures": {"labels": n}} for n in range(3)]
    assert manifest_before(tmp_path, results[0]) is None
    remember(tmp_path, "pseudo_labels@coco-0", results[0])
    assert manifest_before(tmp_path, results[0]) is None
    for _ in range(2):  # the same result again is no new one
        remember(tmp_path, "pseudo_labels@coco-0", results[1])
    assert manifest_before(tmp_path, results[1]) == results[0]
    assert manifest_before(tmp_path, results[2]) == results[1]  # pulled from elsewhere: the last run here was another
    assert manifest_before(tmp_path, {"stage": "pseudo_labels", "partition": "coco-1"}) is None
