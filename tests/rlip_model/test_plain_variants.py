"""Variants without a recorded case agree with an independent plain formulation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import tests.support.plain_network as plain
import tests.support.plain_parse as plain_parse
from rlip_model.checkpoints.official_layout import official_state_dict
from rlip_model.config import SWIN_LARGE, BackboneConfig, ModelConfig
from rlip_model.model import build_model
from rlip_model.vision.backbone import build_backbone
from tests.support.network_cases import make_batch, shake, small
from tests.support.plain_backbones import swin

SMALL_SWIN = BackboneConfig(
    kind="swin", stem=16, depths=(2, 2, 4, 2), widths=(16, 32, 64, 128), heads=(1, 2, 4, 8), window=7
)

VARIANTS = {
    "parseda": small("micro_parseda"),
    "parseda_gate_none": small("micro_parseda", gate="none"),
    "parseda_gate_glip": small("micro_parseda", gate="glip"),
    "parseda_late": small("micro_parseda_late"),
    "parseda_fused_levels": small("micro_parseda", fusion_levels=3),
    "parseda_mbf_only": small("micro_parseda", relation_query="mbf"),
    "parseda_swin": small("micro_parseda", backbone=SMALL_SWIN, encoder_points=4, decoder_points=4),
    "parsed": small("micro_parseda", anchors="points"),
    "parsed_late": small("micro_parseda_late", anchors="points", relation_query="learned"),
    "parse": small("micro_parse"),
}


@pytest.mark.parametrize("masked", [False, True], ids=["no_mask", "text_mask"])
@pytest.mark.parametrize("name", VARIANTS)
def test_agrees_with_the_plain_formulation(name: str, masked: bool) -> None:
    config = VARIANTS[name]
    model = build_model(config).eval()
    shake(model)
    batch = make_batch(config)
    text_mask = torch.arange(12) % 3 == 1 if masked else None
    pooled = torch.randn(12, config.text.width).tanh()
    forward = plain_parse.forward if config.is_dense else plain.forward
    with torch.no_grad():
        mine = model(batch.images, batch.mask, model.label_vectors(pooled), batch.num_objects, text_mask)
        state = official_state_dict(model)
        want = forward(state, config, batch.images, batch.mask, pooled, batch.num_objects, text_mask)
    for quantity, value in want.items():
        assert value.std() > 1e-3, f"{quantity} does not vary: this comparison shows nothing"
        torch.testing.assert_close(getattr(mine, quantity), value, atol=3e-5, rtol=3e-5)


def test_text_mask_matters() -> None:
    """Otherwise the masked comparisons above would show nothing."""
    config = VARIANTS["parseda"]
    model = build_model(config).eval()
    shake(model)
    batch = make_batch(config)
    arguments = (batch.images, batch.mask, batch.pooled, batch.num_objects)
    with torch.no_grad():
        difference = model(*arguments).relation_logits - model(*arguments, torch.arange(12) % 3 == 1).relation_logits
    assert difference.abs().max() > 1e-3


@pytest.mark.deep
def test_swin_large_agrees_with_the_plain_formulation() -> None:
    config = replace(SWIN_LARGE, drop_path=0.0)
    model = build_model(
        replace(ModelConfig.preset("micro_parseda"), backbone=config, encoder_points=4, decoder_points=4)
    ).eval()
    shake(model.backbone)
    image = torch.randn(1, 3, 70, 93)
    with torch.no_grad():
        mine = model.backbone(image)
        want = swin(official_state_dict(model), image, config.depths, config.heads, config.window)
    for a, b in zip(mine, want, strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=2e-4)


def test_swin_large_shape() -> None:
    """The large preset on the meta device: channels and token counts."""
    with torch.device("meta"):
        body = build_backbone(SWIN_LARGE)
        maps = body(torch.zeros(1, 3, 100, 130))
    assert [tuple(x.shape[1:]) for x in maps] == [(384, 13, 17), (768, 7, 9), (1536, 4, 5)]
