"""Presets, JSON form, and refusal of combinations that mean nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from rlip_model.config import PRESETS, ModelConfig
from rlip_model.model import build_model

MILLIONS = {
    "parseda_r50": 213.70,
    "parsed_r50": 206.82,
    "tagger_r50": 206.64,
    "rlipv1_parse_r50": 166.57,
    "parseda_swin_tiny": 214.21,
    "parseda_swin_large": 383.80,
}
"""Published parameter counts (frozen normalisation counts as buffers; the tagger's unused query table is not built here)."""


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_json_round_trip(name: str) -> None:
    config = ModelConfig.preset(name)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("name", sorted(MILLIONS))
def test_published_sizes(name: str) -> None:
    config = ModelConfig.preset(name)
    if config.backbone.kind == "swin":
        config = replace(config, queries=128)
    with torch.device("meta"):
        model = build_model(config)
    count = sum(parameter.numel() for parameter in model.parameters())
    if config.tagger:
        count += config.queries * 3 * config.width
    assert count / 1e6 == pytest.approx(MILLIONS[name], abs=0.06)


DENSE: dict[str, object] = {"anchors": "none", "fusion": "joint", "levels": 1, "relation_query": "learned"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queries": 31}, "must be even"),
        ({"width": 66}, "not a multiple"),
        ({"width": 40, "heads": 4}, "branches"),
        ({"fusion_interval": 0}, "from one fusion to the next"),
        ({"fusion_levels": 5}, "more than the 4 levels"),
        ({"tagger": True}, "points"),
        ({"tagger": True, "anchors": "points", "fusion": "late"}, "needs ALIF"),
        ({"gate": "open"}, "must be one of vxac, glip, none"),
        ({"anchors": "none"}, "give both or neither"),
        ({"fusion": "joint"}, "give both or neither"),
        ({"anchors": "none", "fusion": "joint"}, "needs levels 1"),
        ({"anchors": "none", "fusion": "joint", "levels": 1}, "relation_query `learned`"),
        (DENSE | {"decoder_layers": 5}, "as many of these"),
        (DENSE | {"tagger": True}, "points"),
    ],
)
def test_refuses(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(ModelConfig.preset("micro_parseda"), **changes)  # type: ignore[arg-type]


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="unknown preset 'parseda_r51'; known: micro_detector"):
        ModelConfig.preset("parseda_r51")
    values = ModelConfig.preset("micro_parseda").to_dict()
    with pytest.raises(ValueError, match=r"text\.hiden"):
        ModelConfig.from_dict(values | {"text": values["text"] | {"hiden": 3}})
    del values["anchors"]
    with pytest.raises(ValueError, match="anchors"):
        ModelConfig.from_dict(values)
