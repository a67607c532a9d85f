"""Bytes of a recipe's network: weights, and estimates of the memory of training, captioning and tagging (docs/datasets.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

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
_VOCABULARY, _TEXT_TOKENS, _TEXT_VALUES = 200, 6, 34
"""Texts of a benchmark, tokens of a text, and values that a layer of RoBERTa keeps per token and channel; texts are shared by a batch."""
_SORTED = 48
"""Bytes per word of the vocabulary while a token is drawn: probabilities, their order and sums in float64."""
_PER_IMAGE_TOKEN = 10
"""Values that an encoder layer of BLIP keeps per image token and channel."""
_FORWARD = {"resnet": 350, "swin": 700}
"""Bytes per pixel of a forward pass in fp32, of the backbones above: 0.36 GB measured for ResNet-50 at 800 x 1333, 0.75 for Swin-T and 1.05
for Swin-L, so that wider ones have more as the root of their channels."""


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
    text = config.text
    texts = (recipe.label_budget or _VOCABULARY) * _TEXT_TOKENS * text.width * text.layers * _TEXT_VALUES * _FLOAT
    part = math.ceil(recipe.batch_per_process / recipe.accumulate)
    factor = (0.6 if precision != "fp32" else 1.0) * (0.4 if gradient_checkpointing else 1.0)
    return _COPIES * weight_bytes(recipe) + factor * (part * (backbone + encoder) + texts)


def caption_bytes(config: Mapping[str, Any], images: int, captions: int) -> float:
    """Return an estimate of the memory that BLIP needs to caption `images` images together, `captions` each, without its weights.

    Every caption carries keys and values of all image tokens in each layer of its decoder, and the sorted probabilities of a token; every
    image the activations of one layer of its encoder. Measured: 0.46 GB per image with ten captions, at base size.

    Args:
        config: content of the captioner's `config.json`.
    """
    text, vision = config.get("text_config", {}), config.get("vision_config", {})
    tokens = (vision.get("image_size", 384) // vision.get("patch_size", 16)) ** 2 + 1
    per_caption = 2 * text.get("num_hidden_layers", 12) * tokens * text.get("hidden_size", 768) * _FLOAT
    per_caption += _SORTED * text.get("vocab_size", 30524)
    per_image = captions * per_caption + _PER_IMAGE_TOKEN * tokens * vision.get("hidden_size", 768) * _FLOAT
    return float(images * per_image)


def tagging_bytes(recipe: Recipe, images: int) -> float:
    """Return an estimate of the memory that an R-Tagger needs to judge `images` images together, without its weights."""
    backbone, augmentation = model_config(recipe).backbone, recipe.augmentation
    pixels = augmentation.test_short_side * augmentation.longest
    return images * pixels * _FORWARD[backbone.kind] * math.sqrt(backbone.stem / _FIRST[backbone.kind])
