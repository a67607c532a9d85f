"""Late fusion: queries and label vectors pass joint self-attention layers after the decoders (RLIPv1, "Cross-Modal Fusion").

Shape legend: B batch, N queries, T texts, C model width, D layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlip_model.config import ModelConfig
from rlip_model.layers import FeedForward


class JointLayer(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(config.width)
        self.attention = nn.MultiheadAttention(config.width, config.heads, config.dropout, batch_first=True)
        self.norm_feed_forward = nn.LayerNorm(config.width)
        self.feed_forward = FeedForward(config.width, config.late_feed_forward, config.dropout)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.xavier_uniform_(self.attention.out_proj.weight)

    def forward(self, x: Tensor, ignored: Tensor | None) -> Tensor:
        """Return the sequence x (B, N + T, C) after one layer; ignored (B, N + T) bool, True = no key."""
        normed = self.norm_attention(x)
        read, _ = self.attention(normed, normed, normed, key_padding_mask=ignored, need_weights=False)
        x = x + self.dropout(read)
        result: Tensor = x + self.dropout(self.feed_forward(self.norm_feed_forward(x)))
        return result


class JointEncoder(nn.Module):
    """Queries and labels as one sequence; each layer's output, through one shared norm, is one prediction stage."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(JointLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, queries: Tensor, labels: Tensor, text_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return queries (D, B, N, C) and labels (D, B, T, C) after each layer.

        Args:
            queries: (B, N, C).
            labels: (T, C).
            text_mask: (T,) bool, True = label is no key; or None.
        """
        batch, count, _ = queries.shape
        x = torch.cat([queries, labels.expand(batch, -1, -1)], dim=1)
        ignored = None
        if text_mask is not None:
            ignored = torch.cat([text_mask.new_zeros(count), text_mask]).expand(batch, -1)
        stages = []
        for layer in self.layers:
            x = layer(x, ignored)
            stages.append(self.norm(x))
        result = torch.stack(stages)
        return result[:, :, :count], result[:, :, count:]


class LateFusion(nn.Module):
    """Separate layers for entities with object labels and relations with relation labels."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.entities = JointEncoder(config)
        self.relations = JointEncoder(config)
