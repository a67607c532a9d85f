"""Start of a training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rlip_assets.lineage.recipe_files import recipe
from rlip_assets.training.start import model_config, network_from_checkpoint
from rlip_model import LabelTokenizer, build_model, save_checkpoint


@pytest.mark.parametrize("first", [False, True])
def test_fewer_queries_keep_what_the_recipe_says(tmp_path: Path, tokenizer: LabelTokenizer, first: bool) -> None:
    """Queries are all subjects, then all objects: a pair is a row of each half."""
    whole = build_model(model_config(recipe("micro_vg")))
    save_checkpoint(tmp_path / "model", whole, tokenizer, {})
    fewer = whole.config.queries // 2
    wanted = recipe("micro_vg", {"model_changes": {"queries": fewer}, "published": {"first_queries": first}})
    model, _ = network_from_checkpoint(wanted, tmp_path / "model")
    (name,) = [name for name, value in whole.named_parameters() if value.shape == (whole.config.queries, 4)]
    rows = whole.state_dict()[name]
    kept = rows[:fewer] if first else torch.cat([half[: fewer // 2] for half in rows.chunk(2)])
    assert torch.equal(model.state_dict()[name], kept)
