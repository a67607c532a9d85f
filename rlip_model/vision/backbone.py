"""Image backbones (classes of `transformers`) and the four-level feature pyramid.

Shape legend: B batch, C channels, H and W rows and columns of one level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlip_model.config import BackboneConfig, ModelConfig

GROUPS = 32
"""Groups of the pyramid's group normalisation."""


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
        """Scale and shift, (C,) each: the result is x * scale + shift."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
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
        scale, shift = self.normalization.constants()
        own = self.convolution
        x = F.conv2d(x, own.weight * scale[:, None, None, None], shift, own.stride, own.padding)
        result: Tensor = self.activation(x)
        return result


def _freeze_batch_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(getattr(child, "normalization", None), nn.BatchNorm2d):
            setattr(module, name, FrozenConvolution(child))
        else:
            _freeze_batch_norms(child)


def channels_innermost(images: Tensor) -> Tensor:
    """On a CPU the same images with channels innermost in memory; maps then keep this order, in which convolutions are faster there."""
    return images.contiguous(memory_format=torch.channels_last) if images.device.type == "cpu" else images


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
            _freeze_batch_norms(self)
        if config.fixed:
            self.stem.requires_grad_(False)
            self.stages[0].requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> three maps (B, C_l, H / 8.., W / 8..)."""
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
        """(B, 3, H, W) -> three maps (B, C_l, H / 8.., W / 8..)."""
        x, (height, width) = self.embeddings(images)
        maps = []
        stages: list[Any] = list(self.stages)
        for index, stage in enumerate(stages):
            for block in stage.blocks:
                x, _ = block(x, (height, width), always_partition=True)
            if index > 0:
                normed = self.norms[index - 1](x)
                maps.append(normed.transpose(1, 2).unflatten(2, (height, width)))
            if stage.downsample is not None:
                x = stage.downsample(x, (height, width))
                height, width = (height + 1) // 2, (width + 1) // 2
        return maps


def build_backbone(config: BackboneConfig) -> ResNetBody | SwinBody:
    return ResNetBody(config) if config.kind == "resnet" else SwinBody(config)


def sine_position(padding: Tensor, width: int, kind: Literal["resnet", "swin"]) -> Tensor:
    """Sine position code of a padded map.

    Rows and columns are numbered by the cumulative count of valid cells, scaled to 2 pi; with a Swin backbone half a
    cell is subtracted first (the two published backbones differ here).

    Args:
        padding: (B, H, W) bool, True = padding.
        width: C, channels of the code.
    Returns:
        (B, C, H, W): C / 2 channels for rows, then C / 2 for columns; sine on even, cosine on odd channels.
    """
    valid = ~padding
    offset = 0.5 if kind == "swin" else 0.0
    frequencies = _frequencies(width // 2, padding.device)
    codes = []
    for axis in (1, 2):
        count = valid.cumsum(axis, dtype=torch.float32)
        last = count[:, -1:, :] if axis == 1 else count[:, :, -1:]
        angle = ((count - offset) / (last + 1e-6) * (2 * math.pi))[..., None] / frequencies
        codes.append(torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], dim=-1).flatten(-2))
    return torch.cat(codes, dim=-1).permute(0, 3, 1, 2)


def _frequencies(channels: int, device: torch.device) -> Tensor:
    """Denominators 10000^(2 floor(k / 2) / channels), k = 0 .. channels - 1."""
    k = torch.arange(channels, dtype=torch.float32, device=device)
    return 10000.0 ** (2 * torch.div(k, 2, rounding_mode="floor") / channels)


@dataclass(frozen=True)
class Pyramid:
    """The image as tokens of all levels, finest first, concatenated: S tokens.

    tokens and position: (B, S, C), position with the level embedding; padding: (B, S) bool, True = padding;
    shapes: rows and columns of each level; valid_ratios: (B, L, 2), the unpadded part of the width and the height.
    """

    tokens: Tensor
    position: Tensor
    padding: Tensor
    shapes: tuple[tuple[int, int], ...]
    valid_ratios: Tensor

    @property
    def coarsest(self) -> int:
        """Index of the first token of the last level."""
        height, width = self.shapes[-1]
        return self.tokens.shape[1] - height * width


class FeaturePyramid(nn.Module):
    """Projects backbone maps to width C and adds coarser levels; gives tokens with position codes."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.kind = config.backbone.kind
        self.width = config.width
        channels = config.backbone.channels
        self.projections = nn.ModuleList()
        for level in range(config.levels):
            if level < len(channels):
                convolution = nn.Conv2d(channels[level], config.width, kernel_size=1)
            else:
                source = channels[-1] if level == len(channels) else config.width
                convolution = nn.Conv2d(source, config.width, kernel_size=3, stride=2, padding=1)
            nn.init.xavier_uniform_(convolution.weight)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            self.projections.append(
                nn.Sequential(convolution, nn.GroupNorm(min(GROUPS, config.width // 4), config.width))
            )
        self.level_embedding = nn.Parameter(torch.randn(config.levels, config.width))

    def forward(self, maps: list[Tensor], padding: Tensor) -> Pyramid:
        """Backbone maps and the pixel padding mask (B, H, W) -> tokens of all levels."""
        levels = [projection(x) for projection, x in zip(self.projections, maps, strict=False)]
        for index in range(len(maps), len(self.projections)):
            # The first extra level reads the raw stride-32 map, not its projection.
            source = maps[-1] if index == len(maps) else levels[-1]
            levels.append(self.projections[index](source))
        tokens, positions, masks, shapes, ratios = [], [], [], [], []
        for index, level in enumerate(levels):
            height, width = level.shape[-2:]
            mask = F.interpolate(padding[None].float(), size=(height, width))[0].bool()
            code = sine_position(mask, self.width, self.kind).to(level.dtype)
            tokens.append(level.flatten(2).transpose(1, 2))
            positions.append(code.flatten(2).transpose(1, 2) + self.level_embedding[index])
            masks.append(mask.flatten(1))
            shapes.append((int(height), int(width)))
            ratios.append(torch.stack([(~mask[:, 0, :]).float().mean(1), (~mask[:, :, 0]).float().mean(1)], dim=-1))
        return Pyramid(
            tokens=torch.cat(tokens, 1),
            position=torch.cat(positions, 1),
            padding=torch.cat(masks, 1),
            shapes=tuple(shapes),
            valid_ratios=torch.stack(ratios, 1),
        )
