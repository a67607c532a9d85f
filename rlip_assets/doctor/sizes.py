"""Bytes of a recipe's network: weights, and an estimate of the memory of a training step."""

from __future__ import annotations

import math

import torch

from rlip_assets.lineage.recipes import Recipe
from rlip_assets.training.start import model_config
from rlip_model import build_model

_FLOAT = 4
_COPIES = 4
"""Weights, gradients and the two moments of Adam."""
_BACKBONE = {"resnet": 2100, "swin": 3000}
"""Bytes of activations per pixel, in fp32, of a backbone whose first stage has 64 (ResNet) or 96 (Swin) channels: of the sums over its
layers' outputs; wider ones have more in proportion."""
_FIRST = {"resnet": 64, "swin": 96}
_PER_TOKEN = 24
"""Values that an encoder layer keeps per token and channel: projections, sampled values, and feed-forward of eight times the width."""
_STRIDES = (8, 16, 32, 64)


def _parameters(recipe: Recipe) -> int:
    with torch.device("meta"):
        return sum(value.numel() for value in build_model(model_config(recipe)).parameters())


def weight_bytes(recipe: Recipe) -> float:
    """Return the bytes of the network's weights in float32."""
    return float(_FLOAT * _parameters(recipe))


def step_bytes(recipe: Recipe, precision: str, gradient_checkpointing: bool) -> float:
    """Return an estimate of the memory of one training step on one device: weights, gradients, moments and activations."""
    config, augmentation = model_config(recipe), recipe.augmentation
    pixels = max(augmentation.short_sides) * augmentation.longest
    tokens = sum(pixels / stride**2 for stride in _STRIDES)
    kind = config.backbone.kind
    backbone = _BACKBONE[kind] * pixels * config.backbone.stem / _FIRST[kind]
    encoder = tokens * config.width * _PER_TOKEN * _FLOAT * config.encoder_layers
    part = math.ceil(recipe.batch_per_process / recipe.accumulate)
    factor = (0.6 if precision != "fp32" else 1.0) * (0.4 if gradient_checkpointing else 1.0)
    return _COPIES * weight_bytes(recipe) + part * factor * (backbone + encoder)
