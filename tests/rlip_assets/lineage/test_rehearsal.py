"""A rehearsal: what it changes of a profile, and that its mark stays with every result."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from rlip_assets.dvc.profile_folder import new_profile
from rlip_assets.lineage.params import Params, load_params, validate_params
from rlip_assets.lineage.params.rehearsal import RehearsalParams
from rlip_assets.lineage.profiles import PROJECT_ROOT
from rlip_assets.lineage.registry import build_registry
from rlip_assets.lineage.rehearsal import rehearsed
from rlip_assets.report.page import notices
from rlip_assets.storage.errors import ParameterError


@pytest.fixture
def content() -> dict[str, Any]:
    return rehearsed(Params().model_dump(mode="json"), images=3, steps=2)


def test_every_training_is_short_and_nothing_else_changes(content: dict[str, Any]) -> None:
    params = validate_params(content, "test")
    chosen = [params.training.r_tagger, *params.training.pretrain.values(), *params.training.finetune.values()]
    assert {(choice.resolve().steps, choice.resolve().total_batch) for choice in chosen} == {(2, 1)}
    assert [choice.resolve().model for choice in chosen] == [
        choice.resolve().model
        for choice in (
            Params().training.r_tagger,
            *Params().training.pretrain.values(),
            *Params().training.finetune.values(),
        )
    ]
    assert params.captions == Params().captions.model_copy(update={"batch_size": 3})


def test_every_stage_depends_on_the_limits(content: dict[str, Any]) -> None:
    items = list(build_registry(validate_params(content, "test")).items())
    assert items
    assert all("rehearsal" in item.params for item in items)
    assert not any("rehearsal" in item.params for item in build_registry(Params()).items())


@pytest.mark.parametrize("change", [{"steps": 3}, {"epochs": 1}])
def test_a_long_training_in_a_rehearsal_is_refused(content: dict[str, Any], change: dict[str, int]) -> None:
    choice = content["training"]["finetune"]["v_coco"]["changes"]
    del choice["steps"]
    choice.update(change)
    with pytest.raises(ParameterError, match=r"v_coco runs longer than the 2 steps of rehearsal"):
        validate_params(content, "test")


def test_a_report_says_that_it_is_a_rehearsal(content: dict[str, Any]) -> None:
    words = str(validate_params(content, "test").rehearsal)
    (notice,) = notices({"rehearsal": words, "micro_world": False})
    assert "rehearsal with at most 3 images per split and 2 steps per training" in notice
    assert notices({"micro_world": False}) == []


def test_a_new_profile_can_be_a_rehearsal_of_a_paper_profile(tmp_path: Path) -> None:
    shutil.copytree(PROJECT_ROOT / "profiles/paper_r50", tmp_path / "profiles/paper_r50")
    params = load_params(new_profile("trial", "paper_r50", tmp_path, rehearsal=(3, 2)) / "params.yaml")
    assert params.rehearsal == RehearsalParams(images=3, steps=2)
    assert {choice.resolve().steps for choice in params.training.finetune.values()} == {2}
    assert {source.buckets for name in params.sources.names for source in [params.sources.of(name)]} == {1}
