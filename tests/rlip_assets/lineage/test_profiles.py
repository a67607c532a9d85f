"""The files that are written from the code are those that the code would write now."""

import pytest

from rlip_assets.dvc.pipeline import render_dvc_yaml
from rlip_assets.lineage.params import Params, load_params
from rlip_assets.lineage.params_yaml import render_params_yaml
from rlip_assets.lineage.profiles import (
    PARAMS_FILE,
    PROJECT_ROOT,
    profile_name,
    profile_names,
    profile_root,
    relative_project,
)
from rlip_assets.lineage.registry import build_registry, load_registry
from rlip_assets.lineage.source_digests import _module_parts, changed_stages, imported_modules
from rlip_assets.storage.errors import ParameterError

SHIPPED = [name for name in profile_names() if name in ("micro", "study") or name.startswith("paper_")]


@pytest.mark.parametrize("name", SHIPPED)
def test_parameters_and_pipeline_of_every_profile_are_current(name: str) -> None:
    root = profile_root(name)
    remedy = f"run `rlip params-yaml --profile {name}` and `rlip dvc-yaml --profile {name}`"
    assert (root / PARAMS_FILE).read_text() == render_params_yaml(root / PARAMS_FILE), remedy
    assert (root / "dvc.yaml").read_text() == render_dvc_yaml(load_registry(root), relative_project(root)), remedy
    assert load_params(root / PARAMS_FILE).profile == profile_name(root) == name


def test_external_weights_take_the_place_of_the_shipped_ones() -> None:
    params = Params.model_validate({"external": {"detector": "/weights/dab", "text_encoder": "../roberta"}})
    registry = build_registry(params)
    for name in ("r_tagger", "pretrain"):
        for item in registry.spec(name).items:
            assert (item.inputs["detector"], item.inputs["text_encoder"]) == ("/weights/dab", "../roberta")


def test_the_study_repeats_with_seeds_what_it_compares() -> None:
    training = load_params(profile_root("study") / PARAMS_FILE).training
    for choices in (training.pretrain, training.finetune):
        for name, choice in choices.items():
            setting, _, seed = name.partition("-seed")
            assert (choice.seed is None) == (seed == "")
            assert choice.resolve() == choices[setting].resolve()


def test_source_of_every_stage_is_recorded() -> None:
    assert changed_stages() == [], "raise versions where results may change, then `rlip source-digests --renew`"


def test_data_beside_the_code_counts_as_source() -> None:
    modules = imported_modules("rlip_assets.training.stage")
    assert "rlip_assets.training" in modules  # its folder holds the recipes
    assert "rlip_assets.evaluation.stage" not in modules
    assert "rlip_assets.lineage.recipes" in modules
    assert "rlip_assets.lineage.recipes" not in imported_modules("rlip_assets.datasets.sources.stage")
    counted = {part.partition(":")[0] for part in _module_parts("rlip_assets.training")[1:]}
    folder = PROJECT_ROOT / "rlip_assets" / "training"
    assert counted == {str(file.relative_to(folder)) for file in (folder / "recipes").rglob("*.yaml")}
    assert not any(part.startswith("versions.yaml") for part in _module_parts("rlip_assets.lineage"))


def test_an_unknown_profile_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ParameterError, match=r"micro, .*paper_r50, .*, study"):
        profile_root("mikro")
