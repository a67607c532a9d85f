"""Gated fusion of ALIF: bi-attention between image tokens and label vectors (RLIPv2, "Asymmetric Language-Image Fusion"; GLIP).

Shape legend: B batch, S image tokens of the fused levels (published: the coarsest), T texts, C model width, W text width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlip_model.config import ModelConfig


class BiFusion(nn.Module):
    """Both sides attend to each other through one shared score matrix.

    Two properties of the published network are kept because its weights depend on them: the residual adds to the
    *normalised* input, and no mask acts here, neither of padded image tokens nor of labels.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, text, inner = config.width, config.text.width, config.fusion_width
        self.heads = config.fusion_heads
        self.gate = config.gate
        self.dropout = config.fusion_dropout
        self.norm_visual = nn.LayerNorm(width)
        self.norm_label = nn.LayerNorm(text)
        self.query = nn.Linear(width, inner)
        self.key = nn.Linear(text, inner)
        self.value_visual = nn.Linear(width, inner)
        self.value_label = nn.Linear(text, inner)
        self.output_visual = nn.Linear(inner, width)
        self.output_label = nn.Linear(inner, text)
        for layer in (
            self.query,
            self.key,
            self.value_visual,
            self.value_label,
            self.output_visual,
            self.output_label,
        ):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.scale = (inner // self.heads) ** -0.5
        if self.gate != "none":
            # Under the gate "vxac" only the first element is used; the vectors are whole for checkpoints' sake.
            start = 1.0 / config.levels
            self.gate_visual = nn.Parameter(torch.full((width,), start))
            self.gate_label = nn.Parameter(torch.full((text,), start))

    def start_as_identity(self) -> None:
        """Close the gates, or where there are none set the outputs to zero, so that the fusion starts as its two layer norms."""
        gated = self.gate != "none"
        closed = (
            (self.gate_visual, self.gate_label)
            if gated
            else (*self.output_visual.parameters(), *self.output_label.parameters())
        )
        for parameter in closed:
            nn.init.zeros_(parameter)

    def forward(self, visual: Tensor, position: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fused tokens (B, S, C) and labels (B, T, W).

        With v and l the normalised inputs and one score matrix A = (v + position) Wq (l Wk)^T per head:
        v + g_v * softmax(A) (l W) and l + g_l * softmax(A^T) (v W), gates g_v and g_l.

        Args:
            visual, position: (B, S, C); the position is added to the queries only.
            labels: (B, T, W), or (1, T, W) while the labels are the same for all images.
        """
        visual = self.norm_visual(visual)
        labels = self.norm_label(labels)
        query = self._split(self.query(visual + position) * self.scale)
        key = self._split(self.key(labels))
        scores = query @ key.transpose(-1, -2)
        to_labels = self._drop(scores.softmax(-1))
        to_visual = self._drop(scores.transpose(-1, -2).softmax(-1))
        read_labels = self._merge(to_labels @ self._split(self.value_label(labels)))
        read_visual = self._merge(to_visual @ self._split(self.value_visual(visual)))
        delta_visual = self.output_visual(read_labels)
        delta_label = self.output_label(read_visual)
        if self.gate == "vxac":
            delta_visual, delta_label = delta_visual * self.gate_visual[0], delta_label * self.gate_label[0]
        elif self.gate == "glip":
            delta_visual, delta_label = delta_visual * self.gate_visual, delta_label * self.gate_label
        return visual + delta_visual, labels + delta_label

    def _drop(self, attention: Tensor) -> Tensor:
        return F.dropout(attention, self.dropout, self.training)

    def _split(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.heads, -1)).transpose(1, 2)

    def _merge(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)
