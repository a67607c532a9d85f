"""ResNet and Swin as plain functions over tensors in the published key layout; see `plain_network.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

State = Mapping[str, Tensor]


def linear(state: State, key: str, x: Tensor) -> Tensor:
    return x @ state[f"{key}.weight"].T + state.get(f"{key}.bias", torch.zeros(()))


def layer_norm(state: State, key: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return (
        centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * state[f"{key}.weight"] + state[f"{key}.bias"]
    )


def resnet(state: State, x: Tensor, depths: tuple[int, ...], convolutions: int) -> list[Tensor]:
    """Maps of strides 8, 16, 32; basic blocks have two convolutions (stride in the first), bottlenecks three (in the second)."""

    def norm(key: str, y: Tensor) -> Tensor:
        mean, variance, weight, bias = (state[f"{key}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, mean, variance, weight, bias)

    body = "backbone.0.body"
    x = norm(f"{body}.bn1", F.conv2d(x, state[f"{body}.conv1.weight"], stride=2, padding=3)).relu()
    x = F.max_pool2d(x, 3, 2, 1)
    maps = []
    for stage, depth in enumerate(depths):
        for block in range(depth):
            key = f"{body}.layer{stage + 1}.{block}"
            stride = 2 if stage > 0 and block == 0 else 1
            y = x
            for number in range(1, convolutions + 1):
                weight = state[f"{key}.conv{number}.weight"]
                step = stride if number == convolutions - 1 else 1
                y = norm(f"{key}.bn{number}", F.conv2d(y, weight, stride=step, padding=weight.shape[-1] // 2))
                y = y.relu() if number < convolutions else y
            if f"{key}.downsample.0.weight" in state:
                x = norm(f"{key}.downsample.1", F.conv2d(x, state[f"{key}.downsample.0.weight"], stride=stride))
            x = (x + y).relu()
        maps.append(x)
    return maps[1:]


def swin(state: State, x: Tensor, depths: tuple[int, ...], heads: tuple[int, ...], window: int) -> list[Tensor]:
    body = "backbone.0.body"
    pad = [(-x.shape[-1]) % 4, (-x.shape[-2]) % 4]
    x = F.conv2d(F.pad(x, (0, pad[0], 0, pad[1])), state[f"{body}.patch_embed.proj.weight"], stride=4)
    x = (x + state[f"{body}.patch_embed.proj.bias"][:, None, None]).permute(0, 2, 3, 1)
    x = layer_norm(state, f"{body}.patch_embed.norm", x)
    maps = []
    for stage, depth in enumerate(depths):
        for block in range(depth):
            key = f"{body}.layers.{stage}.blocks.{block}"
            shift = window // 2 if block % 2 else 0
            normed = layer_norm(state, f"{key}.norm1", x)
            x = x + swin_attention(state, f"{key}.attn", normed, heads[stage], window, shift)
            inner = F.gelu(linear(state, f"{key}.mlp.fc1", layer_norm(state, f"{key}.norm2", x)))
            x = x + linear(state, f"{key}.mlp.fc2", inner)
        if stage > 0:
            maps.append(layer_norm(state, f"{body}.norm{stage}", x).permute(0, 3, 1, 2))
        if stage < len(depths) - 1:
            x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
            merged = torch.cat([x[:, a::2, b::2] for a, b in ((0, 0), (1, 0), (0, 1), (1, 1))], -1)
            x = linear(
                state,
                f"{body}.layers.{stage}.downsample.reduction",
                layer_norm(state, f"{body}.layers.{stage}.downsample.norm", merged),
            )
    return maps


def swin_attention(state: State, key: str, x: Tensor, heads: int, window: int, shift: int) -> Tensor:
    """Window attention, one window at a time; regions that the cyclic shift brings together do not see each other."""
    height, width = x.shape[1:3]
    x = F.pad(x, (0, 0, 0, (-width) % window, 0, (-height) % window))
    rows, columns = x.shape[1:3]
    region = torch.zeros(rows, columns)
    if shift:
        cuts = ((0, -window), (-window, -shift), (-shift, None))
        for number, (first, second) in enumerate(product(cuts, cuts)):
            region[slice(*first), slice(*second)] = number
    x = x.roll((-shift, -shift), (1, 2))
    table = state[f"{key}.relative_position_bias_table"]
    cell = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    apart = cell[:, :, None] - cell[:, None] + window - 1
    bias = table[apart[0] * (2 * window - 1) + apart[1]].permute(2, 0, 1)
    result = torch.zeros_like(x)
    for top in range(0, rows, window):
        for left in range(0, columns, window):
            place = (slice(None), slice(top, top + window), slice(left, left + window))
            q, k, v = linear(state, f"{key}.qkv", x[place].flatten(1, 2)).chunk(3, -1)
            where = region[place[1:]].flatten()
            blocked = (where[:, None] != where[None]) * -100.0
            parts = []
            for head, (a, b, c) in enumerate(
                zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True)
            ):
                scores = a @ b.transpose(1, 2) / math.sqrt(a.shape[-1]) + bias[head] + blocked
                parts.append(scores.softmax(-1) @ c)
            read = linear(state, f"{key}.proj", torch.cat(parts, -1))
            result[place] = read.unflatten(1, (window, window))
    return result.roll((shift, shift), (1, 2))[:, :height, :width]
