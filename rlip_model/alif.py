"""ALIF: the deformable image encoder with asymmetric language-image fusion (RLIPv2, "Asymmetric Language-Image Fusion").

The gated fusion is in `fusion.py`, the sparsified language layers are in `language_layers.py`.
Shape legend: B batch, S image tokens of all levels, L levels, T texts, C model width, W text width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from rlip_model.config import ModelConfig
from rlip_model.fusion import BiFusion
from rlip_model.kernels.blocks import by_token_blocks
from rlip_model.language_layers import LanguageLayer
from rlip_model.layers import FeedForward, Memory, image_attention
from rlip_model.vision.pyramid import Pyramid


class EncoderLayer(nn.Module):
    """Post-norm self-attention, deformable (Deformable DETR) or dense (DETR), and feed-forward."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = image_attention(config, config.encoder_points)
        self.norm_attention = nn.LayerNorm(config.width)
        self.feed_forward = FeedForward(config.width, config.feed_forward, config.dropout)
        self.norm_feed_forward = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, memory: Memory, position: Tensor, references: Tensor) -> Tensor:
        """Return new tokens (B, S, C); position (B, S, C), references (B, S, L, 2), or (B, S, 0). Deformable DETR, section 4.2."""
        values = self.attention.project(memory)

        def update(tokens: Tensor, position: Tensor, references: Tensor) -> Tensor:
            read = self.attention(tokens + position, references, memory, values)
            tokens = self.norm_attention(tokens + self.dropout(read))
            result: Tensor = self.norm_feed_forward(tokens + self.dropout(self.feed_forward(tokens)))
            return result

        return by_token_blocks(update, memory.tokens, position, references)


class Encoder(nn.Module):
    """Before every second layer the coarsest level and the labels attend to each other, then the labels pass a language layer.

    With `late` fusion only the deformable layers exist.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.interval = config.fusion_interval
        self.fused_levels = config.fusion_levels
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.fusions = nn.ModuleList(BiFusion(config) for _ in range(config.fusions))
        self.text_layers = nn.ModuleList(LanguageLayer(config.text) for _ in range(config.fusions))

    def start_as_identity(self) -> None:
        """Let fusions and language layers start without effect: with random weights they mix the labels, which makes these alike."""
        for part in (*self.fusions, *self.text_layers):
            part.start_as_identity()

    def forward(self, pyramid: Pyramid, pooled: Tensor, text_mask: Tensor | None) -> tuple[Memory, list[Tensor]]:
        """Return the encoded memory, and the labels (B, T, W) after each fusion; no labels where nothing is fused here.

        Args:
            pyramid: the image tokens.
            pooled: (T, W) label vectors.
            text_mask: (T,) bool, True = no key in the language layers; or None.
        """
        if not self.fusions:
            return self.encode_image(pyramid), []
        memory, references = _start(pyramid)
        split = pyramid.start_of_coarsest(self.fused_levels)
        labels, saved = pooled[None], []
        for index, layer in enumerate(self.layers):
            if index % self.interval == 0:
                number = index // self.interval
                tokens = memory.tokens
                fused, labels = self.fusions[number](tokens[:, split:], pyramid.position[:, split:], labels)
                memory = replace(memory, tokens=torch.cat([tokens[:, :split], fused], dim=1))
                labels = self.text_layers[number](labels, text_mask)
                saved.append(labels)
            memory = replace(memory, tokens=layer(memory, pyramid.position, references))
        return memory, saved

    def encode_image(self, pyramid: Pyramid) -> Memory:
        """Return the memory after the deformable layers alone."""
        memory, references = _start(pyramid)
        for layer in self.layers:
            memory = replace(memory, tokens=layer(memory, pyramid.position, references))
        return memory


def _start(pyramid: Pyramid) -> tuple[Memory, Tensor]:
    memory = Memory(pyramid.tokens, pyramid.padding, pyramid.shapes, pyramid.valid_ratios)
    return memory, grid_references(pyramid)


def grid_references(pyramid: Pyramid) -> Tensor:
    """Return the tokens' own places (B, S, L, 2): cell centres as fractions of the unpadded image, scaled back for each level."""
    ratios = pyramid.valid_ratios
    points = []
    for level, (height, width) in enumerate(pyramid.shapes):
        x = (torch.arange(width, device=ratios.device, dtype=ratios.dtype) + 0.5) / (ratios[:, level, 0, None] * width)
        y = (torch.arange(height, device=ratios.device, dtype=ratios.dtype) + 0.5) / (
            ratios[:, level, 1, None] * height
        )
        grid = torch.stack([x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], dim=-1)
        points.append(grid.flatten(1, 2))
    return torch.cat(points, dim=1)[:, :, None] * ratios[:, None]
