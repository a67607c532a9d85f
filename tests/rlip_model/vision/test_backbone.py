"""The backbone's own forms of layers of `transformers`."""

from __future__ import annotations

import torch
from torch import nn

from rlip_model.config import MICRO_RESNET
from rlip_model.kernels.frozen_batch_norm import FrozenConvolution
from rlip_model.vision.backbone import ResNetBody
from tests.support.network_cases import shake


def test_frozen_normalisation_within_the_convolution() -> None:
    """Values and gradients are those of convolution, normalisation and activation one after the other."""
    body = ResNetBody(MICRO_RESNET).double()
    shake(body)
    layers = [module for module in body.modules() if isinstance(module, FrozenConvolution)]
    assert len(layers) == 13  # the stem, eight convolutions and four shortcuts
    assert not any(isinstance(module, nn.BatchNorm2d) for module in body.modules())
    for layer in layers:
        x = torch.randn(2, layer.convolution.in_channels, 7, 9, dtype=torch.float64, requires_grad=True)
        inputs = [x, layer.convolution.weight.requires_grad_()]
        ours, theirs = layer(x), layer.activation(layer.normalization(layer.convolution(x)))
        torch.testing.assert_close(ours, theirs)
        probe = torch.randn_like(theirs)
        gradients = [torch.autograd.grad(result, inputs, probe) for result in (ours, theirs)]
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b)
