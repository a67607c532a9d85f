"""Shared parts start as published."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rlip_model.layers import BoxHead


def test_fresh_box_heads_have_default_weights() -> None:
    """Of the range and spread of `nn.Linear`; the last layer changes nothing but the size of the first head's boxes."""
    torch.manual_seed(0)
    *hidden, last = BoxHead(64, size_bias=-2.0).layers
    assert isinstance(last, nn.Linear)
    for layer in hidden:
        assert isinstance(layer, nn.Linear)
        default = nn.Linear(64, 64)
        for ours, theirs in ((layer.weight, default.weight), (layer.bias, default.bias)):
            assert float(ours.abs().max()) <= 64**-0.5
            assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.15)
    assert not last.weight.any()
    assert last.bias.tolist() == [0, 0, -2, -2]
