"""`rlip recipes`: what people read about recipes."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from rlip_assets.cli.recipes import recipes
from rlip_assets.storage.errors import ParameterError


def output(*arguments: str) -> list[str]:
    result = CliRunner().invoke(recipes, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output.splitlines()


def test_list_shows_each_recipe_on_one_line() -> None:
    lines = output("list", "parsed_swin_large_hico")
    assert [line.split()[0] for line in lines][:2] == [
        "parsed_swin_large_hico_det_10",
        "parsed_swin_large_hico_det_full",
    ]
    assert "batch  16 20 epochs" in lines[1]
    assert output() == output("list")


def test_show_gives_the_fields_and_the_scripts() -> None:
    lines = output("show", "parseda_r50_v_coco")
    end = lines.index("}") + 1
    assert json.loads("\n".join(lines[:end]))["benchmark"] == "v_coco"
    assert len(lines[end:]) == 3
    assert all(line.startswith("published as RLIP_ParSeDA/fine_tune") for line in lines[end:])


def test_diff_names_what_differs_and_nothing_else() -> None:
    lines = output("diff", "parseda_r50_vg_coco", "parseda_r50_vg_coco_low_threshold")
    assert [line.split()[0] for line in lines] == ["relation_threshold", "processes", "lr_batch"]
    assert "same setting" in output("diff", "micro_vg", "micro_vg")[0]


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ParameterError, match="no recipe is called"):
        output("show", "nothing")
