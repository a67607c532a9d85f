"""RLIPv1-ParSe once more, as plain functions over tensors in the published key layout; see `plain_network.py`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rlip_model import ModelConfig
from tests.support.plain_backbones import State, layer_norm, linear, resnet
from tests.support.plain_network import attention, feed_forward, mlp, position_code


def forward(
    state: State,
    config: ModelConfig,
    images: Tensor,
    mask: Tensor,
    pooled: Tensor,
    num_objects: int,
    text_mask: Tensor | None = None,
) -> dict[str, Tensor]:
    """Outputs of all layers by name. `config` is read for sizes only."""
    batch, pairs = len(images), config.queries // 2
    source = resnet(state, images, config.backbone.depths, 2 if config.backbone.block == "basic" else 3)[-1]
    source = F.conv2d(source, state["input_proj.weight"], state["input_proj.bias"])
    cells = F.interpolate(mask[None].float(), size=source.shape[-2:])[0] > 0.5
    text = layer_norm(state, "transformer.resizer.layer_norm", linear(state, "transformer.resizer.fc", pooled), 1e-12)
    seen = source.flatten(2).transpose(1, 2)
    count = seen.shape[1]
    x = torch.cat([seen, text.expand(batch, -1, -1)], 1)
    code = position_code(cells, config.width, False).flatten(1, 2)
    code = torch.cat([code, torch.zeros(batch, len(text), config.width)], 1)
    hidden = torch.zeros(len(text), dtype=torch.bool) if text_mask is None else text_mask
    ignored = torch.cat([cells.flatten(1), hidden.expand(batch, -1)], 1)
    words = []
    for i in range(config.encoder_layers):
        key = f"transformer.encoder.layers.{i}"
        read = attention(state, f"{key}.self_attn", x + code, x + code, x, config.heads, ignored)
        x = layer_norm(state, f"{key}.norm1", x + read)
        x = layer_norm(state, f"{key}.norm2", x + feed_forward(state, key, x))
        words.append(x[:, count:])
    words = words[-config.decoder_layers :]

    def decode(name: str, position: Tensor) -> list[Tensor]:
        y, states = torch.zeros_like(position), []
        for i in range(config.decoder_layers):
            key = f"transformer.{name}.layers.{i}"
            read = attention(state, f"{key}.self_attn", y + position, y + position, y, config.heads)
            y = layer_norm(state, f"{key}.norm1", y + read)
            read = attention(state, f"{key}.cross_attn_image", y + position, x + code, x, config.heads, ignored)
            y = layer_norm(state, f"{key}.norm3", y + read)
            y = layer_norm(state, f"{key}.norm4", y + feed_forward(state, key, y))
            states.append(layer_norm(state, f"transformer.{name}.norm", y))
        return states

    entities = decode("ho_decoder", state["query_embed.weight"].expand(batch, -1, -1))
    relations = decode("verb_decoder", entities[-1][:, :pairs] + entities[-1][:, pairs:])

    def score(features: Tensor, texts: Tensor, bias: str) -> Tensor:
        e = linear(state, "projection_text", texts / texts.norm(dim=-1, keepdim=True) / 2)
        return torch.einsum("bqc,btc->bqt", features + state[bias], e) - math.log(99)

    logits = [score(y, t[:, :num_objects], "bias_obj_a") for y, t in zip(entities, words, strict=True)]
    verbs = [score(y, t[:, num_objects:], "bias_pred_a") for y, t in zip(relations, words, strict=True)]
    return {
        "sub_logits": torch.stack([each[:, :pairs] for each in logits]),
        "obj_logits": torch.stack([each[:, pairs:] for each in logits]),
        "relation_logits": torch.stack(verbs),
        "sub_boxes": torch.stack([mlp(state, "sub_bbox_embed", y[:, :pairs], 3).sigmoid() for y in entities]),
        "obj_boxes": torch.stack([mlp(state, "obj_bbox_embed", y[:, pairs:], 3).sigmoid() for y in entities]),
    }
