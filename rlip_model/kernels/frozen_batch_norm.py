"""Frozen batch normalisation, folded into the convolution before it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation with fixed statistics and affine part: four buffers, no gradient, equal in train and eval."""

    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight: Tensor
        self.bias: Tensor
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def constants(self) -> tuple[Tensor, Tensor]:
        """Return scale and shift, (C,) each: the result is x * scale + shift."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, C, H, W), scaled and shifted."""
        scale, shift = self.constants()
        return x * scale[:, None, None] + shift[:, None, None]


class FrozenConvolution(nn.Module):
    """Convolution, frozen batch normalisation and activation; the first two are one convolution with scaled weights and a bias."""

    def __init__(self, layer: Any) -> None:
        """layer: a convolution layer or shortcut of a `transformers` ResNet."""
        super().__init__()
        self.convolution: nn.Conv2d = layer.convolution
        self.normalization = FrozenBatchNorm2d(layer.convolution.out_channels)
        self.activation: nn.Module = getattr(layer, "activation", nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, C_out, ...) of maps (B, C_in, H, W)."""
        scale, shift = self.normalization.constants()
        own = self.convolution
        x = F.conv2d(x, own.weight * scale[:, None, None, None], shift, own.stride, own.padding)
        result: Tensor = self.activation(x)
        return result


def freeze_batch_norms(module: nn.Module) -> None:
    """Replace every convolution with batch normalisation in a `transformers` ResNet by a `FrozenConvolution`."""
    for name, child in module.named_children():
        if isinstance(getattr(child, "normalization", None), nn.BatchNorm2d):
            setattr(module, name, FrozenConvolution(child))
        else:
            freeze_batch_norms(child)


def channels_innermost(images: Tensor) -> Tensor:
    """Return the same images, on a CPU with channels innermost in memory; maps keep this order, in which convolutions are faster."""
    return images.contiguous(memory_format=torch.channels_last) if images.device.type == "cpu" else images
