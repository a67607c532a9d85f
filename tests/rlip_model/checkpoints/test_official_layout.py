"""The released key layout: complete, two-way, and strict about shapes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rlip_model.checkpoints.official_layout import layout_of, load_official, official_state_dict
from rlip_model.config import ModelConfig
from rlip_model.dab_deformable_detr import DabDeformableDetr
from rlip_model.model import build_model
from tests.support.facts import CHECKPOINT_KEYS
from tests.support.network_cases import shake, small

RELEASED = {
    "parseda_r50": ("parseda_r50", 200),
    "parsed_r50": ("parsed_r50", 200),
    "tagger": ("tagger_r50", 200),
    "parse_r50": ("rlipv1_parse_r50", 200),
    "parseda_swinT": ("parseda_swin_tiny", 128),
    "parseda_swinL": ("parseda_swin_large", 128),
}
SMALL = ("micro_parseda", "micro_parseda_late", "micro_tagger", "micro_parse")


@pytest.mark.parametrize("table", RELEASED)
def test_has_exactly_the_released_keys(table: str) -> None:
    file = CHECKPOINT_KEYS / f"{table}.tsv"
    preset, queries = RELEASED[table]
    with torch.device("meta"):
        model = build_model(replace(ModelConfig.preset(preset), queries=queries))
    rows = [line.split("\t") for line in file.read_text().splitlines()[1:]]
    have = {
        key: (str(list(value.shape)), str(value.dtype).removeprefix("torch."))
        for key, value in official_state_dict(model).items()
    }
    assert have == {row[0]: (row[1], row[2]) for row in rows}


@pytest.mark.parametrize("table", RELEASED)
def test_the_same_parameters_are_trained(table: str) -> None:
    """Parameters that the released training left fixed are fixed here; box heads of the relation decoder never get a gradient."""
    file = CHECKPOINT_KEYS / f"{table}.tsv"
    preset, queries = RELEASED[table]
    with torch.device("meta"):
        model = build_model(replace(ModelConfig.preset(preset), queries=queries))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    layout = layout_of(model)
    rows = {row[0]: row for row in (line.split("\t") for line in file.read_text().splitlines()[1:])}
    for key, entry in layout.entries.items():
        mine = all(part.name in trained for part in entry.parts)
        released = rows[key][4] == "True" and not key.startswith(
            tuple(f"{r}_bbox_embed.{i}." for r in ("sub", "obj") for i in (3, 4, 5))
        )
        assert mine == released, key


@pytest.mark.parametrize("name", SMALL)
def test_round_trip(name: str) -> None:
    source, target = build_model(small(name)), build_model(small(name))
    shake(source)
    report = load_official(target, official_state_dict(source))
    assert report.missing == report.unexpected == ()
    own = target.state_dict()
    for key, value in source.state_dict().items():
        assert torch.equal(own[key], value), key


def test_swin_round_trip_joins_and_splits_qkv() -> None:
    config = replace(ModelConfig.preset("parseda_swin_tiny").backbone, depths=(1, 1, 1, 1), drop_path=0.0)
    source, target = (build_model(small("micro_parseda", backbone=config)) for _ in range(2))
    shake(source)
    state = official_state_dict(source)
    qkv = state["backbone.0.body.layers.1.blocks.0.attn.qkv.weight"]
    assert torch.equal(qkv[:192], source.get_parameter("backbone.stages.1.blocks.0.attention.q_proj.weight"))
    load_official(target, state)
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in source.state_dict().items())


def test_top_level_box_head_wins_over_its_alias() -> None:
    model = build_model(small("micro_parseda"))
    state = official_state_dict(model)
    key = "sub_bbox_embed.4.layers.0.bias"
    state = {name: value.clone() for name, value in state.items()}
    state[key].fill_(7.0)
    load_official(model, state)
    assert (model.get_parameter("relation_decoder.sub_boxes.1.layers.0.bias") == 7).all()
    del state[key]
    state["transformer.verb_decoder.sub_bbox_embed.1.layers.0.bias"].fill_(9.0)
    load_official(model, state)
    assert (model.get_parameter("relation_decoder.sub_boxes.1.layers.0.bias") == 9).all()


def test_wrong_shape_changes_nothing() -> None:
    model = build_model(small("micro_parseda"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = {name: value + 1 for name, value in official_state_dict(model).items()}
    state["projection_text.weight"] = torch.zeros(3, 3)
    with pytest.raises(ValueError, match=r"projection_text\.weight has shape \(3, 3\)"):
        load_official(model, state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_reports_what_is_missing_and_unexpected() -> None:
    model = build_model(small("micro_parseda"))
    state = official_state_dict(model)
    del state["bias_obj_a"]
    state["something.else"] = torch.zeros(1)
    state["transformer.text_encoder.embeddings.position_ids"] = torch.arange(4)[None]
    report = load_official(model, state)
    assert report.missing == ("bias_obj_a",)
    assert report.unexpected == ("something.else",)


def test_detector_layout() -> None:
    with torch.device("meta"):
        model = DabDeformableDetr(replace(ModelConfig.preset("parseda_r50"), queries=300), 91)
        keys = official_state_dict(model)
    assert tuple(keys["transformer.decoder.layers.5.self_attn.in_proj_weight"].shape) == (768, 256)
    assert tuple(keys["class_embed.5.weight"].shape) == (91, 256)
    assert tuple(keys["bbox_embed.0.layers.2.weight"].shape) == (4, 256)
    assert tuple(keys["refpoint_embed.weight"].shape) == (300, 4)
    assert tuple(keys["transformer.decoder.ref_point_head.layers.0.weight"].shape) == (256, 512)
    assert not [key for key in keys if "VLFuse" in key or "roberta" in key or "text" in key]
