"""`dvc.yaml` says of each item what the registry says, whatever the items of a stage have in common."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rlip_assets.dvc.pipeline import render_dvc_yaml
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.registry import build_registry
from rlip_assets.lineage.spec import Registry, StageItem, StageSpec

names = st.sampled_from(["scenes", "classes", "labels/coco", "labels/objects365", "image_list"])
keys = st.sampled_from(["alpha", "beta-0", "beta-1", "gamma"])
inputs = st.dictionaries(names, st.sampled_from(["data/a", "data/b", "data/a/beta-0"]), min_size=1, max_size=5)
params = st.sampled_from([("seed",), ("seed", "sources.a"), ("sources.b",), ("sources.b", "training.alpha")])


def resolved(stage: dict[str, Any], part: str) -> dict[str, list[Any]]:
    """Return one list of a `foreach` stage for each of its items, as DVC fills it in."""

    def fill(value: Any, key: str, entry: dict[str, str]) -> Any:
        if isinstance(value, dict):
            return {
                fill(name, key, entry): [fill(inner, key, entry) for inner in values] for name, values in value.items()
            }
        for name, text in {"key": key, **{f"item.{name}": text for name, text in entry.items()}}.items():
            value = value.replace(f"${{{name}}}", text)
        return value

    return {key: [fill(v, key, entry) for v in stage["do"].get(part, [])] for key, entry in stage["foreach"].items()}


@given(st.dictionaries(keys, st.tuples(inputs, params), min_size=1, max_size=4))
def test_every_item_has_its_own_paths_and_parameters_and_no_others(given: dict[str, Any]) -> None:
    items = [StageItem("work", key, read, {"out": f"out/{key}"}, used) for key, (read, used) in given.items()]
    stage = yaml.safe_load(render_dvc_yaml(Registry([StageSpec("work", "m:f", "Work.", tuple(items), "g")])))["stages"][
        "work"
    ]
    deps, outs, used = (resolved(stage, part) for part in ("deps", "outs", "params"))
    for item in items:
        key = str(item.partition)
        assert set(deps[key]) == set(item.inputs.values())
        assert outs[key] == [f"out/{key}", f"provenance/work@{key}.json"]
        assert {one for one in used[key] if isinstance(one, str)} == set(item.params)
    assert not any("_0" in name for entry in stage["foreach"].values() for name in entry)


def test_two_parameters_that_would_have_one_name_are_refused() -> None:
    items = tuple(StageItem("work", key, {}, {"out": key}, (f"a.{key}", f"a.{key}2")) for key in ("x", "y"))
    with pytest.raises(ValueError, match="two parameters of one section"):
        render_dvc_yaml(Registry([StageSpec("work", "m:f", "Work.", items, "g")]))


def test_checkpoints_are_artifacts_and_the_report_is_shown() -> None:
    registry = build_registry(Params())
    content = yaml.safe_load(render_dvc_yaml(registry))
    models = {model["path"] for model in content["artifacts"].values()}
    assert models == {item.outputs["checkpoint"] for item in registry.items() if "checkpoint" in item.outputs}
    assert content["stages"]["captions"]["do"]["meta"] == {
        "group": "captions",
        "owners": ["team:rlip"],
        "kinds": ["pytorch", "parquet"],
        "pool": "gpu",
    }
    assert "pool" not in content["stages"]["report"]["meta"]
    shown = [*content["metrics"], *(file for plot in content["plots"] for one in plot.values() for file in one["y"])]
    assert all(registry.writers(path) == ("report",) for path in shown)
