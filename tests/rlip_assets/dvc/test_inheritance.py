"""Results cross from the profile at the project's root to a folder below `profiles/`, under the paths that they have there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rlip_assets.dvc.inheritance import inherit_results
from rlip_assets.dvc.lock import read_stages
from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.profiles import PARAMS_FILE, PROJECT_ROOT
from rlip_assets.lineage.registry import build_registry
from rlip_assets.storage.errors import DataError

REGISTRY = build_registry(load_params(PROJECT_ROOT / PARAMS_FILE), "../..")
SCENES, WEIGHTS = "data/scenes/visual_genome", "rlip_assets/micro_world/starting_weights/weights/text_encoder"
VERSIONS = "rlip_assets/lineage/versions.yaml"


def entry(md5: str, up: str = "") -> dict[str, Any]:
    return {
        "cmd": "rlip stage r_tagger",
        "deps": [{"path": SCENES, "md5": "11"}, {"path": up + WEIGHTS, "md5": "22"}],
        "params": {PARAMS_FILE: {"training.seed": 1}, up + VERSIONS: {"r_tagger.version": 3}},
        "outs": [{"path": "data/models/r_tagger", "md5": md5}],
    }


def write_lock(root: Path, **stages: dict[str, Any]) -> None:
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A profile that shares the cache of the project at its root, in which one object lies."""
    root = tmp_path / "profiles/study_x"
    (root / ".dvc").mkdir(parents=True)
    (root / PARAMS_FILE).write_text("training: {seed: 1}\n")
    (root / ".dvc/config").write_text('[cache]\n    dir = "../../../.dvc/cache"\n')
    held = tmp_path / ".dvc/cache/files/md5/ab"
    held.mkdir(parents=True)
    (held / "cd").write_text("[]")
    return root


@pytest.mark.parametrize("base", [".", "profiles/base"])
def test_paths_to_the_project_are_those_of_the_profile(study: Path, tmp_path: Path, base: str) -> None:
    root = tmp_path / base
    root.mkdir(exist_ok=True)
    write_lock(root, r_tagger=entry("abcd", "" if base == "." else "../../"))
    for _ in range(2):  # again, it changes nothing
        assert inherit_results(root, study, REGISTRY, tmp_path) == ["r_tagger"]
        assert read_stages(study) == {"r_tagger": entry("abcd", "../../")}


def test_what_the_cache_lacks_or_the_profile_does_not_have_stays_behind(study: Path, tmp_path: Path) -> None:
    """Otherwise a committed lock of other results would replace what the profile has made itself."""
    made = entry("0011", "../../")
    write_lock(study, r_tagger=made)
    write_lock(tmp_path, r_tagger=entry("ffff"), report=entry("abcd"), other=entry("abcd"))
    assert inherit_results(tmp_path, study, REGISTRY, tmp_path) == ["report"]
    assert set(read_stages(study)) == {"r_tagger", "report"}
    assert read_stages(study)["r_tagger"] == made


@pytest.mark.parametrize("written", ["training: {seed: 2}", "training: null", "training: {seed: [1]}"])
def test_results_of_other_parameters_replace_none_of_the_profile(study: Path, tmp_path: Path, written: str) -> None:
    """A study whose arms change the captions has made its own, which the cache may hold no longer once no lock names them."""
    (study / PARAMS_FILE).write_text(written)
    made = entry("abcd", "../../")
    write_lock(study, r_tagger=made)
    write_lock(tmp_path, r_tagger={**entry("abcd"), "cmd": "rlip stage other"})
    assert inherit_results(tmp_path, study, REGISTRY, tmp_path) == []
    assert read_stages(study) == {"r_tagger": made}


def test_a_base_that_never_ran_gives_nothing_and_a_damaged_lock_is_named(study: Path, tmp_path: Path) -> None:
    assert inherit_results(tmp_path, study, REGISTRY, tmp_path) == []
    assert not (study / "dvc.lock").exists()
    (tmp_path / "dvc.lock").write_text("stages: [")
    with pytest.raises(DataError, match=r"dvc\.lock is not a DVC lock file"):
        inherit_results(tmp_path, study, REGISTRY, tmp_path)
