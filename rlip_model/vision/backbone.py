"""Image backbones: ResNet and Swin of `transformers`, with the maps of strides 8, 16 and 32.

Shape legend: B batch, C_l channels of map l, H and W rows and columns of the image.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rlip_model.config import BackboneConfig
from rlip_model.kernels.frozen_batch_norm import channels_innermost, freeze_batch_norms


class ResNetBody(nn.Module):
    """ResNet v1.5 (stride in the 3x3 convolution); maps of strides 8, 16, 32."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        from transformers import ResNetConfig
        from transformers.models.resnet.modeling_resnet import ResNetModel

        model = ResNetModel(
            ResNetConfig(
                embedding_size=config.stem,
                hidden_sizes=list(config.widths),
                depths=list(config.depths),
                layer_type=config.block,
            )
        )
        self.stem = model.embedder
        self.stages = model.encoder.stages
        if config.norm == "frozen":
            freeze_batch_norms(self)
        if config.fixed:
            self.stem.requires_grad_(False)
            self.stages[0].requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return three maps (B, C_l, H / 8.., W / 8..) of images (B, 3, H, W)."""
        x = self.stem(channels_innermost(images))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[1:]


class SwinBody(nn.Module):
    """Swin transformer; maps of strides 8, 16, 32, each taken before downsampling and layer-normalised.

    Windows are padded with zeros that take part in attention, as in the original detector code; patches need not
    divide the image.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        from transformers import SwinConfig
        from transformers.models.swin.modeling_swin import SwinModel

        model = SwinModel(
            SwinConfig(
                embed_dim=config.stem,
                depths=list(config.depths),
                num_heads=list(config.heads),
                window_size=config.window,
                drop_path_rate=config.drop_path,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                attn_implementation="sdpa",  # type: ignore[call-arg]
            ),
            add_pooling_layer=False,
        )
        self.embeddings = model.embeddings
        self.stages = model.encoder.layers
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in config.channels)
        if config.fixed:
            for name, parameter in self.named_parameters():
                if "norm" in name or "relative_position_bias" in name:
                    parameter.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return three maps (B, C_l, H / 8.., W / 8..) of images (B, 3, H, W)."""
        x, (height, width) = self.embeddings(images)
        maps = []
        stages: list[Any] = list(self.stages)
        for index, stage in enumerate(stages):
            for block in stage.blocks:
                x, _ = block(x, (height, width), always_partition=True)
            if index > 0:
                normed = self.norms[index - 1](x)
                maps.append(torch.unflatten(normed.transpose(1, 2), 2, (height, width)))
            if stage.downsample is not None:
                x = stage.downsample(x, (height, width))
                height, width = (height + 1) // 2, (width + 1) // 2
        return maps


def build_backbone(config: BackboneConfig) -> ResNetBody | SwinBody:
    """Return the backbone with fresh weights."""
    return ResNetBody(config) if config.kind == "resnet" else SwinBody(config)
