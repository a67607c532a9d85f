"""Sparsified language layers of ALIF: one RoBERTa layer after each fusion, one per two vision layers.

RLIPv2, "Asymmetric Language-Image Fusion". Shape legend: B batch, T texts, W text width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rlip_model.config import TextConfig
from rlip_model.text import roberta_config


class LanguageLayer(nn.Module):
    """One post-norm RoBERTa layer over the set of labels, without positions; it starts from random weights."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        from transformers.models.roberta import modeling_roberta

        roberta: Any = modeling_roberta
        self.layer: nn.Module = roberta.RobertaLayer(roberta_config(config))
        for parameter in self.layer.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def start_as_identity(self) -> None:
        """Set the outputs of attention and feed-forward to zero, so that the layer starts as its two layer norms."""
        layer: Any = self.layer
        for dense in (layer.attention.output.dense, layer.output.dense):
            nn.init.zeros_(dense.weight)
            nn.init.zeros_(dense.bias)

    def forward(self, labels: Tensor, text_mask: Tensor | None) -> Tensor:
        """Return labels (B, T, W) after one layer; text_mask (T,) or (B, T) bool, True = ignored as key."""
        bias = None
        if text_mask is not None:
            bias = torch.zeros(text_mask.shape, dtype=labels.dtype, device=labels.device)
            bias = bias.masked_fill(text_mask, -10000.0)
            bias = bias.view(-1, 1, 1, text_mask.shape[-1]).expand(labels.shape[0], 1, labels.shape[1], -1)
        result: Tensor = self.layer(labels, bias)
        return result
