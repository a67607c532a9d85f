"""Recipes: every file is the published setting it names; unknown things are refused in one sentence."""

from __future__ import annotations

import csv
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.params.labels import TaggingParams
from rlip_assets.lineage.params.predictions import PredictionChoice
from rlip_assets.lineage.params.training import TrainingParams
from rlip_assets.lineage.profiles import PROJECT_ROOT
from rlip_assets.lineage.recipe_files import RecipeFolder, recipe, recipes
from rlip_assets.lineage.recipes import PublishedTraining, Recipe, differences
from rlip_assets.storage.errors import ParameterError
from rlip_assets.training.optimiser import rate_factor
from rlip_assets.training.start import model_config
from tests.support.facts import FACTS

FLAGS = FACTS / "published_flags.tsv"
TRAINING, TAGGING = "main.py", "generate_relations_using_verb_tagger.py"
"""Published programs: recipes follow the scripts of the first; those of the second are settings of `tagging` in `params.yaml`."""
PROFILES = {"resnet50": "paper_r50", "swin_tiny": "paper_swin_t", "swin_large": "paper_swin_l"}

BACKBONES = {
    "resnet50": ("resnet", 64),
    "resnet101": ("resnet", 64),
    "swin_tiny": ("swin", 96),
    "swin_large": ("swin", 192),
}
GATES = {"VXAc": "vxac", "XGating": "none", "": "glip"}
QUERY_SEEDS = {"vanilla_MBF": "mbf_learned", "": "learned"}
SOURCES = {
    "vg": {"visual_genome"},
    "vg_coco2017": {"visual_genome", "coco"},
    "vg_coco2017_o365": {"visual_genome", "coco", "objects365"},
    "vg_coco2017_hico": {"visual_genome", "coco", "hico_det"},
    "vg_coco2017_o365_hico": {"visual_genome", "coco", "objects365", "hico_det"},
    "vg_hico": {"visual_genome", "hico_det"},
    "hico": {"hico_det"},
    "vcoco": {"v_coco"},
    "oi_sgg": {"open_images"},
    "coco": {"coco"},
    "o365_det": {"objects365"},
}
CONSTANT = {
    "set_cost_bbox": "2.5",
    "set_cost_giou": "1",
    "bbox_loss_coef": "2.5",
    "giou_loss_coef": "1",
    "schedule": "step",
    "obj_loss_type": "cross_entropy",
    "verb_loss_type": "focal",
    "enc_layers": "6",
    "dec_layers": "3",
    "with_box_refine": "1",
    "num_feature_levels": "4",
    "use_no_obj_token": "1",
    "sampling_stategy": "freq",
    "fusion_interval": "2",
    "fusion_last_vis": "1",
    "lang_aux_loss": "1",
}
"""Flags with one value in all training rows: they are fixed in the network, the criterion or the sampler."""
RLIPV2_ONLY = dict.fromkeys(
    ("with_box_refine", "num_feature_levels", "fusion_interval", "fusion_last_vis", "lang_aux_loss"), ""
)
"""Those of them that RLIPv1-ParSe does not have."""


def rows(program: str = TRAINING) -> list[dict[str, str]]:
    with FLAGS.open() as stream:
        return [row for row in csv.DictReader(stream, delimiter="\t") if row["prog"] == program]


@cache
def published() -> dict[str, tuple[Recipe, tuple[str, ...]]]:
    """Published settings by name, each with its scripts, as a table beside the recipe files says. Empty cells are defaults."""
    result: dict[str, tuple[Recipe, tuple[str, ...]]] = {}
    for row in csv.DictReader((FACTS / "published_recipes.tsv").read_text().splitlines(), delimiter="\t"):
        name, scripts = row.pop("recipe"), tuple(row.pop("scripts").split(" "))
        values: dict[str, Any] = {key: value for key, value in row.items() if value}
        values["sources"] = dict.fromkeys(row["sources"].split(","), 1.0)
        values["trainval"] = tuple(filter(None, row["trainval"].split(",")))
        changes = (change.partition("=") for change in row["model_changes"].split(",") if change)
        values["model_changes"] = {key: int(value) if value.isdecimal() else value for key, _, value in changes}
        values["published"] = PublishedTraining.whole()
        result[name] = Recipe.model_validate(values), scripts
    return result


def recipe_of(script: str) -> Recipe:
    (name,) = [name for name, (_, scripts) in published().items() if script in scripts]
    return recipe(name)


def test_files_hold_the_published_settings_and_name_their_scripts() -> None:
    named = recipes()
    assert {name for name in named if not name.startswith(("micro", "clean"))} == set(published())
    for name, (setting, scripts) in published().items():
        assert differences(named[name], setting) == {}, name
        assert list(named[name].sources) == list(setting.sources), name
        assert named.comment(name) == [f"published as {script}" for script in scripts]


def test_clean_recipes_differ_from_the_published_ones_in_unseen_classes_alone() -> None:
    clean = [name for name in recipes() if name.startswith("clean")]
    assert len(clean) == 6
    for name in clean:
        changed = differences(recipe(name.replace("clean", "parseda")), recipe(name))
        assert changed == {"unseen_images": ("keep", "drop_empty"), "unseen_cells": ("negative", "ignore")}
        assert recipe(name).unseen is not None


@pytest.mark.parametrize("row", rows(TAGGING), ids=lambda row: row["script"])
def test_taggings_are_parameters_of_a_profile(row: dict[str, str]) -> None:
    batch, threshold = int(row["img_inference_batch"]), float(row["relation_threshold"])
    wanted = TaggingParams(groups="published", batch_size=batch, store_threshold=threshold)
    assert TaggingParams(groups="published", batch_size=batch) == wanted
    paper = PROJECT_ROOT / "profiles" / PROFILES[row["backbone"]] / "params.yaml"
    if paper.exists():
        own = load_params(paper).tagging
        assert (own.groups, own.batch_size, own.store_threshold) == ("published", batch, threshold)


def test_every_recipe_runs_in_a_stage() -> None:
    """Those of kind tagger, pretrain and finetune in the training of that kind, those of kind zero_shot in `predict`."""
    assert {setting.kind for setting in recipes().values()} == {"tagger", "pretrain", "finetune", "zero_shot"}
    for name, setting in recipes().items():
        if setting.kind == "zero_shot":
            choice = PredictionChoice(checkpoint="/somewhere", recipe=name)
            assert (choice.on, choice.as_zero_shot) == ("hico_det", True)
        elif setting.kind != "finetune":
            with pytest.raises(ValueError, match="which predicts no benchmark"):
                PredictionChoice(checkpoint="/somewhere", recipe=name)


def test_the_table_covers_all_training_rows() -> None:
    assert (len(rows()), len(rows(TAGGING))) == (76, 4)
    named = [script for _, scripts in published().values() for script in scripts]
    assert sorted(named) == sorted(row["script"] for row in rows())
    settings = [setting for setting, _ in published().values()]
    assert len({setting.model_dump_json() for setting in settings}) == len(settings)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["script"])
def test_recipe_has_the_published_hyperparameters(row: dict[str, str]) -> None:
    setting, config = recipe_of(row["script"]), model_config(recipe_of(row["script"]))
    assert set(setting.sources) == SOURCES[row["dataset_file"]]
    assert setting.batch_per_process == int(row["batch_size"])
    nodes = int(row["nnodes"]) if row["nnodes"].isdecimal() else 1
    assert setting.processes == nodes * int(row["nproc_per_node"] or 1)
    assert setting.subject_class == bool(row["subject_class"])
    kind, stem = BACKBONES[row["backbone"]]
    assert (config.backbone.kind, config.backbone.stem) == (kind, stem)
    assert config.backbone.drop_path == float(row["drop_path_rate"] or 0)
    parse = bool(row["RLIP_ParSe"])
    assert config.queries == int(row["num_queries"]) * (2 if parse else 1)  # RLIPv1-ParSe counts pairs
    assert config.feed_forward == int(row["dim_feedforward"] or 2048)
    assert config.dropout == (float(row["dropout"]) if row["dropout"] else 0.1)
    assert config.anchors == ("none" if parse else "boxes" if row["RLIP_ParSeDA_v2"] else "points")
    assert config.tagger == bool(row["verb_tagger"])
    assert config.fusion != "late" or config.late_feed_forward == int(row["dim_feedforward"])
    assert config.fusion == {"GLIP_attn": "alif", "MDETR_attn": "late", "": "joint"}[row["fusion_type"]]
    assert config.relation_query == QUERY_SEEDS[row["verb_query_tgt_type"]]
    if config.fusion == "alif":
        assert config.gate == GATES[row["gating_mechanism"]]
    assert (config.encoder_layers, config.decoder_layers, config.levels) == (6, 3, 1 if parse else 4)
    assert (config.width, config.heads, config.encoder_points, config.decoder_points) == (256, 8, 4, 4)
    assert {flag: row[flag] for flag in CONSTANT} == CONSTANT | (RLIPV2_ONLY if parse else {})
    assert setting.epochs == int(row["epochs"])
    factors = [rate_factor(setting, 1000, step) for step in range(1000)]
    assert set(factors) == {1.0, 0.1}
    assert factors.index(0.1) == round(1000 * int(row["lr_drop"]) / int(row["epochs"]))
    rates = setting.learning_rates()
    assert rates == pytest.approx(
        {"main": float(row["lr"]), "backbone": float(row["lr_backbone"]), "text": float(row["text_encoder_lr"])}
    )
    assert (setting.weight_decay, setting.clip) == (1e-4, 0.1)
    assert setting.published == PublishedTraining.whole()
    assert setting.quality == bool(row["giou_verb_label"])
    if not row["eval"]:  # a loss switch of an evaluation script does nothing
        assert setting.pseudo == bool(row["pseudo_verb"])
        assert setting.label_budget == int(row["negative_text_sampling"] or 0)
        assert setting.relation_threshold == float(row["relation_threshold"] or 0)
    assert setting.share == {"": 1.0, "100": 1.0, "1": 0.01, "10": 0.1}[row["few_shot_transfer"]]
    assert setting.unseen == {"": None, "UC-RF": "uc_rf", "UC-NF": "uc_nf"}[row["zero_shot_setting"]]
    if row["verb_tagger"]:
        assert (setting.label_noise, setting.box_noise) == (
            float(row["label_noise_scale"] or 0.2),
            float(row["box_noise_scale"] or 0.4),
        )
        assert setting.pairs_per_image == config.pairs
    augmentation = setting.augmentation
    assert (augmentation.flip, augmentation.jitter, augmentation.crop) == (0.5, 0.4, 0.5)
    assert augmentation.short_sides == tuple(range(480, 801, 32))
    assert (augmentation.longest, augmentation.test_short_side) == (1333, 800)


def test_learning_rate_grows_with_the_root_of_the_batch() -> None:
    base = recipe("parseda_r50_hico_det_full")
    halved = base.changed({"processes": 4})
    assert halved.learning_rates()["main"] == pytest.approx(1.41e-4 / 2**0.5)
    assert base.total_batch == 64


@pytest.mark.parametrize("name", [name for name in recipes() if name.startswith("micro")])
def test_micro_recipes_name_networks_that_exist(name: str) -> None:
    assert model_config(recipe(name)).pairs > 0


@pytest.mark.parametrize(
    ("usual", "baseline"), [("micro_vg_coco_o365", "micro_late_vg_coco_o365"), ("micro_vg", "micro_parse_vg")]
)
def test_baselines_differ_in_the_network_alone(usual: str, baseline: str) -> None:
    assert set(differences(recipe(usual), recipe(baseline))) == {"model"}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"stepz": 5}, "stepz"),
        ({"steps": 0}, "steps"),
        ({"sources": {}}, "source"),
        ({"pseudo": True, "quality": False}, "RQL"),
        (
            {"confidence_weight": True, "quality": False, "pseudo": False},
            r"confidence_weight needs quality \(RQL\).*set quality: true",
        ),
        ({"unseen_texts": "removed"}, "needs a zero-shot split"),
        ({"unseen_cells": "ignore"}, "needs a zero-shot split"),
        ({"unseen": "uc5"}, "unseen"),
        ({"unseen": []}, "unseen"),
        ({"trainval": ["objects365"]}, "trainval names objects365, which is no source"),
    ],
)
def test_wrong_changes_are_refused(changes: dict[str, object], word: str) -> None:
    with pytest.raises(ParameterError, match=word):
        recipe("micro_vg", changes)


def test_unknown_recipe_and_network_are_refused() -> None:
    with pytest.raises(ParameterError, match="no recipe is called 'micro_vgg'"):
        recipe("micro_vgg")
    with pytest.raises(ParameterError, match="unknown preset"):
        model_config(recipe("micro_vg", {"model": "parseda_r51"}))
    with pytest.raises(ParameterError, match="querries"):
        model_config(recipe("micro_vg", {"model_changes": {"querries": 10}}))


def test_profile_refuses_an_unknown_recipe_at_the_door() -> None:
    with pytest.raises(ValueError, match="no recipe is called"):
        TrainingParams.model_validate({"pretrain": {"vg": {"recipe": "nothing"}}})
    with pytest.raises(ValueError, match="batch_sise"):
        TrainingParams.model_validate({"r_tagger": {"recipe": "micro_tagger", "changes": {"batch_sise": 3}}})


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a": "kind: [pretrain"}, r"a\.yaml is not readable as YAML: .* line 1"),
        ({"a": "- kind"}, r"a\.yaml holds no fields of a recipe"),
        ({"a": ""}, r"a\.yaml holds no fields of a recipe"),
        ({"a": "base: nowhere"}, r"a\.yaml: base: no recipe file is called 'nowhere'"),
        ({"a": "base: [b]"}, r"a\.yaml: base: no recipe file is called \['b'\]"),
        ({"a": "base: a"}, r"a\.yaml: base: a -> a goes round in a circle"),
        ({"a": "base: b", "base/b": "base: c", "base/c": "base: b"}, r"b -> c -> b goes round in a circle"),
        ({"a": "base: b", "base/b": "stepz: 5"}, r"base/b\.yaml: stepz: Extra inputs"),
        ({"a": "base: b\nsteps: many", "base/b": "kind: pretrain"}, r"a\.yaml: (model: Field required|steps)"),
        ({"a": "base: micro\nsteps: many"}, r"a\.yaml: steps: Input should be a valid integer"),
        ({"a": "base: micro\nlr: .nan"}, r"a\.yaml: lr: Input should be"),
        ({"a": "base: micro\nsources: {coco: -1}"}, r"a\.yaml: sources\.coco: Input should be greater than 0"),
        ({"a": "base: micro\npublished: 3"}, r"a\.yaml: published: "),
        ({"a": "base: b", "base/b": "base: micro\npublished: 3"}, r"b\.yaml: published: "),
        ({"a": "base: micro\naugmentation: {short_sides: []}"}, r"a\.yaml: augmentation\.short_sides: "),
        ({"a": "base: micro\npublished: {bicycles: true}"}, r"a\.yaml: published\.bicycles: Extra inputs"),
        ({"a": "base: micro\nquality: false"}, r"a\.yaml: recipe: .*pseudo \(RPL\) needs quality"),
        ({"a": "base: micro\n5: x"}, r"a\.yaml: 5.*: "),
        ({"a": "base: micro", "more/a": "base: micro"}, r"more/a\.yaml and .*a\.yaml have one name"),
    ],
)
def test_a_wrong_file_is_named_with_its_field(tmp_path: Path, files: dict[str, str], words: str) -> None:
    micro = (
        "kind: pretrain\nmodel: m\nsources: {coco: 1}\nlabel_budget: 9\nbatch_per_process: 1\nsteps: 5\npseudo: true\n"
    )
    for name, text in (files | {"base/micro": micro}).items():
        (tmp_path / f"{name}.yaml").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(text)
    with pytest.raises(ParameterError, match=words) as caught:
        _ = RecipeFolder(tmp_path)["a"]
    assert "\n" not in str(caught.value)


def test_shared_parts_are_no_recipes() -> None:
    assert "pretrain" not in recipes()
    with pytest.raises(ParameterError, match="no recipe is called 'pretrain'"):
        recipe("pretrain")


def test_steps_replace_epochs_and_back() -> None:
    short = recipe("parseda_r50_hico_det_full", {"steps": 7})
    assert short.total_steps(37_633) == 7
    assert recipe("micro_vg", {"epochs": 2}).total_steps(160) == 20


def test_published_recipes_have_every_quirk_and_others_few() -> None:
    assert not any(PublishedTraining().model_dump().values())
    assert all(PublishedTraining.whole().model_dump().values())
    assert {recipe(name).published for name in published()} == {PublishedTraining.whole()}
    micro = {recipe.published for name, recipe in recipes().items() if name.startswith("micro")}
    assert micro == {PublishedTraining(pseudo_gradient=True)}


def test_single_quirks_can_be_switched() -> None:
    changed = recipe("parseda_r50_hico_det_full", {"published": {"text_mask": False}}).published
    assert changed == PublishedTraining.whole().model_copy(update={"text_mask": False})
    assert recipe("micro_vg", {"published": {"text_mask": True}}).published.pseudo_gradient
    with pytest.raises(ParameterError, match=r"published\.bicycles"):
        recipe("micro_vg", {"published": {"bicycles": True}})


def test_every_quirk_is_a_row_of_the_table() -> None:
    table = (Path(__file__).parents[3] / "docs" / "quirks.md").read_text().splitlines()
    for name, field in PublishedTraining.model_fields.items():
        number = re.match(r"Quirk (\d+): ", field.description or "")
        assert number, name
        (row,) = [line for line in table if line.startswith(f"| {number[1]} |")]
        assert f"`published.{name}`" in row
