"""Start of a training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rlip_assets.lineage.profiles import PROJECT_ROOT
from rlip_assets.lineage.recipe_files import recipe, recipes
from rlip_assets.training.start import model_config, network_from_checkpoint, network_from_parts
from rlip_model import LabelTokenizer, build_model, load_checkpoint, save_checkpoint


@pytest.mark.parametrize("first", [False, True])
def test_fewer_queries_keep_what_the_recipe_says(tmp_path: Path, tokenizer: LabelTokenizer, first: bool) -> None:
    """Queries are all subjects, then all objects: a pair is a row of each half."""
    whole = build_model(model_config(recipe("micro_vg")))
    save_checkpoint(tmp_path / "model", whole, tokenizer, {})
    fewer = whole.config.queries // 2
    wanted = recipe("micro_vg", {"model_changes": {"queries": fewer}, "published": {"first_queries": first}})
    model, _, start = network_from_checkpoint(wanted, tmp_path / "model")
    (name,) = [name for name, value in whole.named_parameters() if value.shape == (whole.config.queries, 4)]
    rows = whole.state_dict()[name]
    kept = rows[:fewer] if first else torch.cat([half[: fewer // 2] for half in rows.chunk(2)])
    assert torch.equal(model.state_dict()[name], kept)
    assert start.cut == (whole.config.queries, fewer)
    assert f"{whole.config.queries} queries cut to {fewer}" in start.sentence()


def test_parse_keeps_pairs_as_published(tmp_path: Path, tokenizer: LabelTokenizer) -> None:
    whole = build_model(model_config(recipe("micro_parse_vg")))
    save_checkpoint(tmp_path / "model", whole, tokenizer, {})
    wanted = recipe("micro_parse_vg", {"model_changes": {"queries": 8}, "published": {"first_queries": True}})
    model, _, _ = network_from_checkpoint(wanted, tmp_path / "model")
    sub, obj = whole.get_parameter("queries.position").chunk(2)
    assert torch.equal(model.get_parameter("queries.position"), torch.cat([sub[:4], obj[:4]]))


@pytest.mark.parametrize(("before", "after"), [("cleaned", "published"), ("published", "cleaned")])
def test_the_recipe_says_in_which_form_label_texts_are_learnt(
    tmp_path: Path, tokenizer: LabelTokenizer, before: str, after: str
) -> None:
    first, then = (recipe("micro_open_images", {"model_changes": {"label_texts": form}}) for form in (before, after))
    save_checkpoint(tmp_path / "model", build_model(model_config(first)), tokenizer, {})
    assert load_checkpoint(tmp_path / "model").config.label_texts == before
    model, _, _ = network_from_checkpoint(then, tmp_path / "model")
    assert model.config == model_config(then)
    assert all(recipe(name).model_changes["label_texts"] == "published" for name in recipes() if "r50_open" in name)


def test_fusions_start_as_the_recipe_says() -> None:
    shipped = PROJECT_ROOT / "rlip_assets/micro_world/starting_weights/weights"
    gates = {}
    for start in ("published", "identity"):
        wanted = recipe("micro_vg", {"fusion_start": start})
        model, _, _ = network_from_parts(wanted, shipped / "detector", shipped / "text_encoder", seed=1)
        gates[start] = {value[0].item() for name, value in model.named_parameters() if ".gate_" in name}
    assert gates == {"published": {1 / model.config.levels}, "identity": {0.0}}
    assert all(recipe(name).fusion_start == "published" for name in recipes())
