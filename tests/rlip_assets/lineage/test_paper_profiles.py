"""Profiles of real data: the paper's, those made from them, and what is refused when `params.yaml` is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlip_assets.dvc.pipeline import render_dvc_yaml
from rlip_assets.dvc.profile_folder import check_pipeline, complete_folder, mend_pipeline, new_profile
from rlip_assets.lineage.datasets import DATASETS
from rlip_assets.lineage.params import Params, load_params, validate_params
from rlip_assets.lineage.params.placeholders import unset
from rlip_assets.lineage.profiles import PARAMS_FILE, PROJECT_ROOT, profile_root, relative_project
from rlip_assets.lineage.recipe_files import recipes
from rlip_assets.lineage.registry import build_registry, load_registry
from rlip_assets.storage.errors import ParameterError

NETWORKS = {"paper_r50": "_r50", "paper_swin_t": "_swin_tiny", "paper_swin_l": "_swin_large", "paper_parse": "_r50"}
"""Profile -> part of the names of its recipes."""
BASELINE = "paper_parse"
"""The profile of RLIPv1-ParSe, which labels nothing."""
EXTERNAL = {"detector": "/w/dab", "text_encoder": "/w/roberta", "captioner": "/w/blip"}


def changed(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with nested changes; None removes nothing, it is a value."""
    result = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        result[key] = changed(base[key], value) if nested else value
    return result


def paper(**changes: Any) -> Params:
    content = yaml.safe_load((profile_root("paper_r50") / PARAMS_FILE).read_text())
    return validate_params(changed(content, changes), "params.yaml")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_paper_profile_has_every_published_training_of_its_network(name: str) -> None:
    params = load_params(profile_root(name) / PARAMS_FILE)
    training = params.training
    stages: dict[str, Mapping[str, Any]] = {
        "pretrain": training.pretrain,
        "finetune": training.finetune,
        "zero_shot": params.predictions,
    }
    for kind, choices in stages.items():
        published = {
            each
            for each, recipe in recipes().items()
            if recipe.kind == kind
            and NETWORKS[name] in each
            and each.startswith("parse_" if name == BASELINE else ("parseda_", "parsed_"))
        }
        assert published
        assert {choice.recipe for choice in choices.values()} == published
    assert training.r_tagger.recipe == f"tagger{NETWORKS[name]}_vg"


def test_every_recipe_runs_somewhere() -> None:
    """In a profile, in a study, or by the documented command in place of one that a profile has."""
    used = set[str]()
    for name in ("micro", "study", *NETWORKS):
        params = load_params(profile_root(name) / PARAMS_FILE)
        training = params.training
        used |= {
            choice.recipe for choice in (training.r_tagger, *training.pretrain.values(), *training.finetune.values())
        }
        used |= {prediction.recipe for prediction in params.predictions.values() if prediction.recipe}
    used |= set(re.findall(r'recipe = "(\w+)"', (PROJECT_ROOT / "rlip_assets/report/studies/studies.toml").read_text()))
    left = set(recipes()) - used
    assert {name.partition("_")[0] for name in left} == {"clean"}
    assert {name.replace("clean", "parseda") for name in left} <= used
    command = "training.finetune.hico_uc_rf.recipe=clean_r50_hico_det_uc_rf"
    assert command in (PROJECT_ROOT / "docs/real_data.md").read_text()
    changed = paper(training={"finetune": {"hico_uc_rf": {"recipe": command.partition("=")[2]}}})
    assert changed.training.finetune["hico_uc_rf"].resolve().unseen_cells == "ignore"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_paper_profile_has_nothing_of_the_micro_world(name: str) -> None:
    for file in profile_root(name).iterdir():
        assert file.is_dir() or not {"micro", "oracle"} & set(file.read_text().replace("_", " ").split()), file
    params = load_params(profile_root(name) / PARAMS_FILE)
    assert {params.sources.of(dataset).buckets for dataset in params.sources.names} == {64}
    tagging = params.tagging
    assert (params.captions.top_k, params.captions.max_tokens, params.candidates.relation_text) == (50, 20, "surface")
    assert (tagging.groups, tagging.wording, tagging.store_threshold) == ("published", "surface", 0.05)
    assert (params.training.precision, params.training.device) == ("bf16", "cuda")
    assert all(path.startswith("/path/to/") for _, path in unset(params))
    assert len([key for key, _ in unset(params) if key.startswith("sources.")]) == (3 if name == BASELINE else 6)
    assert ("captions" in build_registry(params).specs) == (name != BASELINE)


@pytest.mark.parametrize("dataset", DATASETS)
def test_any_dataset_may_be_left_out(dataset: str) -> None:
    content = yaml.safe_load((profile_root("paper_r50") / PARAMS_FILE).read_text())
    content["sources"][dataset] = None
    with pytest.raises(ParameterError, match=f"needs {dataset}, which this profile leaves out"):
        validate_params(content, "params.yaml")
    for stage in ("pretrain", "finetune"):
        kept = {}
        for name, choice in content["training"][stage].items():
            recipe = recipes()[choice["recipe"]]
            if dataset not in (*recipe.sources, recipe.benchmark):
                kept[name] = choice
        content["training"][stage] = kept
    content["training"]["start"] = "/w/start"
    content["predictions"] = {}
    content["training"]["finetune"] = {
        name: {key: value for key, value in choice.items() if key != "start"}
        for name, choice in content["training"]["finetune"].items()
    }
    if dataset == "visual_genome":
        content["external"]["r_tagger"] = "/w/tagger"
    registry = build_registry(validate_params(content, "params.yaml"), "../..")
    assert "micro_world" not in registry.specs
    paths = [path for item in registry.items() for path in (*item.inputs.values(), *item.outputs.values())]
    assert not any(dataset in path.split("/") or f"{dataset}-" in path for path in paths)
    assert not any("micro_world" in path for path in paths)
    made = {path for item in registry.items() for path in item.outputs.values()}
    for item in registry.items():
        for path in item.inputs.values():
            assert path.startswith("/") or registry.writers(path) or path in made, (item.address, path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"training": {"pretrain": {"nf": {"recipe": "parseda_r50_hico_det_nf"}}}},
            r"training.pretrain.nf: parseda_r50_hico_det_nf is a recipe of kind zero_shot, and the stage pretrain runs those of kind pret",
        ),
        (
            {"training": {"finetune": {"x": {"recipe": "parseda_r50_vg_coco"}}}},
            "training.finetune.x: parseda_r50_vg_coco is a recipe of kind pretrain",
        ),
        ({"training": {"r_tagger": {"recipe": "parsed_r50_vg"}}}, "the stage r_tagger runs those of kind tagger"),
        (
            {"training": {"r_tagger": {"detector": None}}},
            "external.detector: null, but a profile of real data has to name the box detector that training.r_tagger starts from",
        ),
        ({"external": {"captioner": None}}, "external.captioner: null, but .* the captioner of coco, objects365"),
        ({"external": {"text_encoder": None}}, "external.text_encoder: null"),
        ({"external": {"labels": {"hico_det": "/l"}}}, r"external.labels.hico_det: .* no such detection dataset"),
        ({"captions": {"model": "/w/blip"}}, "captions.model and external.captioner both"),
        ({"training": {"pretrain": {"vg_coco": {"changes": {"sources": {"v_coco": 1}}}}}}, "no relations of v_coco"),
        ({"oracle": {"captions": True}}, "oracle.captions needs the truth of the micro world"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_read(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        paper(**changes)


def test_a_dataset_that_is_not_named_beside_a_real_one_is_left_out(tmp_path: Path) -> None:
    """The micro world does not slip into a profile of real data."""
    training = {"pretrain": {}, "finetune": {}, "r_tagger": {"recipe": "micro_tagger"}}
    content = {"sources": {"hico_det": {"root": "/data/hico"}}, "training": training, "external": EXTERNAL}
    (tmp_path / PARAMS_FILE).write_text(yaml.safe_dump(content))
    params = load_params(tmp_path / PARAMS_FILE)
    assert params.sources.names == ("hico_det",)
    assert set(build_registry(params).specs) == {"raw_manifest", "scenes"}


def test_a_new_profile_is_a_dvc_project_that_stands_alone(tmp_path: Path) -> None:
    base = tmp_path / "profiles/paper_r50"
    base.mkdir(parents=True)
    text = (profile_root("paper_r50") / PARAMS_FILE).read_text()
    text = text.replace("/path/to/weights/roberta-base", "weights/roberta")
    (base / PARAMS_FILE).write_text(text.replace("detections:\n  model: null", "detections:\n  model: ./detr"))
    root = new_profile("mine", "paper_r50", tmp_path)
    params = load_params(root / PARAMS_FILE)
    assert params.profile == "mine"
    assert params.external.text_encoder == "../paper_r50/weights/roberta"
    assert params.detections.model == "../paper_r50/detr"
    assert (root / "dvc.yaml").read_text() == render_dvc_yaml(load_registry(root), relative_project(root, tmp_path))
    assert "profiles" not in (root / ".dvcignore").read_text().splitlines()
    for name in ("mine", "paper_r50", "Mine", "study_mine", "../mine"):
        with pytest.raises(ParameterError):
            new_profile(name, "paper_r50", tmp_path)
    (root / ".dvc/config").unlink()
    assert complete_folder(root, tmp_path) == [root / ".dvc/config"]


def test_a_pipeline_older_than_the_parameters_is_named_or_written_again(tmp_path: Path) -> None:
    base = tmp_path / "profiles/paper_r50"
    base.mkdir(parents=True)
    (base / PARAMS_FILE).write_text((profile_root("paper_r50") / PARAMS_FILE).read_text())
    assert "written again" in str(mend_pipeline(base))
    assert mend_pipeline(base) is None
    check_pipeline(base, load_registry(base))
    (base / PARAMS_FILE).write_text((base / PARAMS_FILE).read_text().replace("weights/roberta-base", "roberta"))
    with pytest.raises(ParameterError, match="run `rlip dvc-yaml --profile paper_r50`"):
        check_pipeline(base, load_registry(base))
    (base / "dvc.yaml").write_text("stages: {}\n")
    check_pipeline(base, load_registry(base))  # someone's own pipeline
