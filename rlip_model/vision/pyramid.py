"""The feature pyramid, of four levels (Deformable DETR, appendix A.2) or one (DETR): image tokens with sine position codes.

Shape legend: B batch, C channels, L levels, S tokens of all levels, H and W rows and columns of one level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlip_model.config import ModelConfig
from rlip_model.layers import sine_code


def sine_position(padding: Tensor, width: int, kind: Literal["resnet", "swin"]) -> Tensor:
    """Return the sine position code of a padded map.

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
    codes = []
    for axis in (1, 2):
        count = valid.cumsum(axis, dtype=torch.float32)
        last = count[:, -1:, :] if axis == 1 else count[:, :, -1:]
        codes.append(sine_code((count - offset) / (last + 1e-6) * (2 * math.pi), width // 2))
    return torch.cat(codes, dim=-1).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Pyramid:
    """The image as tokens of all levels, finest first, concatenated: S tokens.

    tokens and position: (B, S, C), position with the level embedding where there is one; padding: (B, S) bool, True = padding;
    shapes: rows and columns of each level; valid_ratios: (B, L, 2), the unpadded part of the width and the height.
    """

    tokens: Tensor
    position: Tensor
    padding: Tensor
    shapes: tuple[tuple[int, int], ...]
    valid_ratios: Tensor

    def start_of_coarsest(self, levels: int) -> int:
        """Return the index of the first token of the last `levels` levels."""
        return self.tokens.shape[1] - sum(height * width for height, width in self.shapes[-levels:])


class FeaturePyramid(nn.Module):
    """Project backbone maps to width C, add coarser levels, and flatten them to tokens with position codes.

    For dense attention there is one level, the map of stride 32, without a norm and a level embedding.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.kind = config.backbone.kind
        self.width = config.width
        channels = config.backbone.channels[-1:] if config.is_dense else config.backbone.channels
        self.maps = len(channels)
        self.projections = nn.ModuleList()
        for level in range(config.levels):
            if level < len(channels):
                convolution = nn.Conv2d(channels[level], config.width, kernel_size=1)
            else:
                source = channels[-1] if level == len(channels) else config.width
                convolution = nn.Conv2d(source, config.width, kernel_size=3, stride=2, padding=1)
            nn.init.xavier_uniform_(convolution.weight)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            norm = [] if config.is_dense else [nn.GroupNorm(config.norm_groups, config.width)]
            self.projections.append(nn.Sequential(convolution, *norm))
        self.level_embedding = None if config.is_dense else nn.Parameter(torch.randn(config.levels, config.width))

    def forward(self, maps: list[Tensor], padding: Tensor) -> Pyramid:
        """Return the tokens (B, S, C) of backbone maps (B, C_l, H_l, W_l) and the pixel padding mask (B, H, W)."""
        maps = maps[-self.maps :]
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
            position = code.flatten(2).transpose(1, 2)
            positions.append(position if self.level_embedding is None else position + self.level_embedding[index])
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
