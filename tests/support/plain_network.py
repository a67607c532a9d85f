"""The network once more, as plain functions over tensors in the published key layout.

An oracle for variants that no recorded case covers. Written from the description alone: grid sampling instead of bags,
one image position at a time where that is the simpler sentence, no code of the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from rlip_model import ModelConfig
from tests.support.plain_backbones import State, layer_norm, linear, resnet, swin


def mlp(state: State, key: str, x: Tensor, depth: int) -> Tensor:
    for index in range(depth):
        x = linear(state, f"{key}.layers.{index}", x)
        x = x.relu() if index < depth - 1 else x
    return x


def logit(x: Tensor) -> Tensor:
    return (x.clamp(0, 1).clamp(min=1e-5) / (1 - x.clamp(0, 1)).clamp(min=1e-5)).log()


def attention(
    state: State, key: str, q: Tensor, k: Tensor, v: Tensor, heads: int, ignored: Tensor | None = None
) -> Tensor:
    """Multi-head attention with packed input projections; ignored (B, K) keys get no weight."""
    weight, bias = state[f"{key}.in_proj_weight"].chunk(3), state[f"{key}.in_proj_bias"].chunk(3)
    q, k, v = (x @ w.T + b for x, w, b in zip((q, k, v), weight, bias, strict=True))
    parts = []
    for a, b, c in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
        scores = torch.einsum("bqc,bkc->bqk", a, b) / math.sqrt(a.shape[-1])
        if ignored is not None:
            scores = scores.masked_fill(ignored[:, None], -math.inf)
        parts.append(scores.softmax(-1) @ c)
    return linear(state, f"{key}.out_proj", torch.cat(parts, -1))


def sample_grid(values: list[Tensor], locations: Tensor, weights: Tensor) -> Tensor:
    """The usual formulation. values: per level (B, M, D, H, W); locations (B, Q, M, L, K, 2) in 0..1; weights (B, Q, M, L, K)."""
    total: Tensor | None = None
    for level, value in enumerate(values):
        batch, heads = value.shape[:2]
        grid = (2 * locations[:, :, :, level] - 1).permute(0, 2, 1, 3, 4).flatten(0, 1)
        picked = F.grid_sample(value.flatten(0, 1), grid, align_corners=False)
        share = weights[:, :, :, level].permute(0, 2, 1, 3).flatten(0, 1)[:, None]
        part = (picked * share).sum(-1).unflatten(0, (batch, heads)).permute(0, 3, 1, 2).flatten(2)
        total = part if total is None else total + part
    assert total is not None
    return total


def deformable(
    state: State, key: str, query: Tensor, refs: Tensor, tokens: Tensor, padding: Tensor, shapes: list, heads: int
) -> Tensor:
    """refs (B, Q, L, 2 or 4)."""
    batch, count, _ = query.shape
    levels = len(shapes)
    value = linear(state, f"{key}.value_proj", tokens) * (~padding)[..., None]
    maps, first = [], 0
    for h, w in shapes:
        block = value[:, first : first + h * w].unflatten(2, (heads, -1))
        maps.append(block.permute(0, 2, 3, 1).unflatten(3, (h, w)))
        first += h * w
    offsets = linear(state, f"{key}.sampling_offsets", query).view(batch, count, heads, levels, -1, 2)
    points = offsets.shape[4]
    weights = linear(state, f"{key}.attention_weights", query).view(batch, count, heads, -1).softmax(-1)
    if refs.shape[-1] == 2:
        size = torch.tensor([[w, h] for h, w in shapes], dtype=query.dtype)
        locations = refs[:, :, None, :, None] + offsets / size[None, None, None, :, None]
    else:
        locations = refs[:, :, None, :, None, :2] + offsets / points * refs[:, :, None, :, None, 2:] * 0.5
    read = sample_grid(maps, locations, weights.view(batch, count, heads, levels, points))
    return linear(state, f"{key}.output_proj", read)


def feed_forward(state: State, key: str, x: Tensor) -> Tensor:
    return linear(state, f"{key}.linear2", linear(state, f"{key}.linear1", x).relu())


def bi_fusion(
    state: State, key: str, visual: Tensor, position: Tensor, labels: Tensor, heads: int, gate: str
) -> tuple[Tensor, Tensor]:
    """visual (B, N, C), labels (B, T, W)."""
    v, w = layer_norm(state, f"{key}.layer_norm_v", visual), layer_norm(state, f"{key}.layer_norm_l", labels)
    q, k = linear(state, f"{key}.attn.v_proj", v + position), linear(state, f"{key}.attn.l_proj", w)
    from_v, from_l = linear(state, f"{key}.attn.values_v_proj", v), linear(state, f"{key}.attn.values_l_proj", w)
    to_visual, to_labels = [], []
    for a, b, c, d in zip(*(x.chunk(heads, -1) for x in (q, k, from_v, from_l)), strict=True):
        scores = torch.einsum("bnc,btc->bnt", a / math.sqrt(a.shape[-1]), b)
        to_visual.append(scores.softmax(2) @ d)
        to_labels.append(scores.softmax(1).transpose(1, 2) @ c)
    dv = linear(state, f"{key}.attn.out_v_proj", torch.cat(to_visual, -1))
    dl = linear(state, f"{key}.attn.out_l_proj", torch.cat(to_labels, -1))
    if gate == "vxac":
        dv, dl = dv * state[f"{key}.gamma_v"][0], dl * state[f"{key}.gamma_l"][0]
    elif gate == "glip":
        dv, dl = dv * state[f"{key}.gamma_v"], dl * state[f"{key}.gamma_l"]
    return v + dv, w + dl


def text_layer(state: State, key: str, x: Tensor, heads: int, mask: Tensor | None, eps: float) -> Tensor:
    q, k, v = (linear(state, f"{key}.attention.self.{name}", x) for name in ("query", "key", "value"))
    parts = []
    for a, b, c in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
        scores = a @ b.transpose(1, 2) / math.sqrt(a.shape[-1])
        if mask is not None:
            scores = scores + mask * -10000.0
        parts.append(scores.softmax(-1) @ c)
    read = linear(state, f"{key}.attention.output.dense", torch.cat(parts, -1))
    x = layer_norm(state, f"{key}.attention.output.LayerNorm", x + read, eps)
    inner = linear(state, f"{key}.intermediate.dense", x)
    inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    return layer_norm(state, f"{key}.output.LayerNorm", x + linear(state, f"{key}.output.dense", inner), eps)


def position_code(padding: Tensor, width: int, swin: bool) -> Tensor:
    """(B, H, W) -> (B, H, W, C)."""
    valid = (~padding).float()
    blocks = []
    for axis in (1, 2):
        count = valid.cumsum(axis)
        last = count[:, -1:] if axis == 1 else count[:, :, -1:]
        angle = (count - 0.5 * swin) / (last + 1e-6) * (2 * math.pi)
        for k in range(width // 2):
            phase = angle / 10000 ** (2 * (k // 2) / (width // 2))
            blocks.append(phase.sin() if k % 2 == 0 else phase.cos())
    return torch.stack(blocks, -1)


def anchor_code(refs: Tensor, width: int) -> Tensor:
    """(..., 4) -> (..., 2 width): y, x, w, h."""
    blocks = []
    for axis in (1, 0, 2, 3):
        for k in range(width // 2):
            phase = refs[..., axis] * 2 * math.pi / 10000 ** (2 * (k // 2) / (width // 2))
            blocks.append(phase.sin() if k % 2 == 0 else phase.cos())
    return torch.stack(blocks, -1)


def refine(state: State, key: str, x: Tensor, ref: Tensor) -> Tensor:
    change = mlp(state, key, x, 3)
    start = logit(ref)
    return torch.cat([change[..., : start.shape[-1]] + start, change[..., start.shape[-1] :]], -1).sigmoid()


def forward(
    state: State,
    config: ModelConfig,
    images: Tensor,
    mask: Tensor,
    pooled: Tensor,
    num_objects: int,
    text_mask: Tensor | None = None,
) -> dict[str, Tensor]:
    """Outputs of all layers by name, for detectors (no tagger). `config` is read for sizes and switches only."""
    swin_body = config.backbone.kind == "swin"
    if swin_body:
        maps = swin(state, images, config.backbone.depths, config.backbone.heads, config.backbone.window)
    else:
        maps = resnet(state, images, config.backbone.depths, 2 if config.backbone.block == "basic" else 3)
    batch, dab = len(images), config.anchors == "boxes"
    encoder = "transformer.encoder" if dab else "transformer.ho_encoder"
    tokens, position, padding, shapes, ratios = [], [], [], [], []
    for level in range(4):
        weight = state[f"input_proj.{level}.0.weight"]
        source = maps[min(level, 2)]
        x = F.conv2d(source, weight, state[f"input_proj.{level}.0.bias"], *((2, 1) if level == 3 else (1, 0)))
        groups = min(32, config.width // 4)
        x = F.group_norm(x, groups, state[f"input_proj.{level}.1.weight"], state[f"input_proj.{level}.1.bias"])
        cells = F.interpolate(mask[None].float(), size=x.shape[-2:])[0] > 0.5
        code = position_code(cells, config.width, swin_body) + state["transformer.level_embed"][level]
        tokens.append(x.flatten(2).transpose(1, 2))
        position.append(code.flatten(1, 2))
        padding.append(cells.flatten(1))
        shapes.append(tuple(x.shape[-2:]))
        ratios.append(torch.stack([(~cells)[:, 0].float().mean(1), (~cells)[:, :, 0].float().mean(1)], -1))
    v, pos, pad, ratio = torch.cat(tokens, 1), torch.cat(position, 1), torch.cat(padding, 1), torch.stack(ratios, 1)
    grid = []
    for (h, w), r in zip(shapes, ratios, strict=True):
        y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
        grid.append(torch.stack([x.flatten() / (r[:, :1] * w), y.flatten() / (r[:, 1:] * h)], -1))
    refs = torch.cat(grid, 1)[:, :, None] * ratio[:, None]
    last = sum(h * w for h, w in shapes[-config.fusion_levels :])
    labels, texts = pooled.expand(batch, -1, -1), []
    for i in range(config.encoder_layers):
        if config.fusion == "alif" and i % config.fusion_interval == 0:
            j = i // config.fusion_interval
            key = f"{encoder}.VLFuse_layers.{j}.b_attn"
            fused, labels = bi_fusion(
                state, key, v[:, -last:], pos[:, -last:], labels, config.fusion_heads, config.gate
            )
            v = torch.cat([v[:, :-last], fused], 1)
            key = f"{encoder}.roberta_layers.{j}"
            labels = text_layer(state, key, labels, config.text.heads, text_mask, config.text.layer_norm_eps)
            texts.append(labels)
        key = f"{encoder}.layers.{i}"
        read = deformable(state, f"{key}.self_attn", v + pos, refs, v, pad, shapes, config.heads)
        v = layer_norm(state, f"{key}.norm1", v + read)
        v = layer_norm(state, f"{key}.norm2", v + feed_forward(state, key, v))

    def resize(x: Tensor) -> Tensor:
        return layer_norm(state, "transformer.resizer.layer_norm", linear(state, "transformer.resizer.fc", x), 1e-12)

    def decode(
        name: str,
        x: Tensor,
        learned: Tensor | None,
        ref_of: Callable[[], Tensor],
        move: Callable[[int, Tensor], object],
    ) -> list[Tensor]:
        states = []
        for i in range(config.decoder_layers):
            key, ref = f"transformer.{name}", ref_of()
            scaled = ref[:, :, None] * torch.cat([ratio] * (ref.shape[-1] // 2), -1)[:, None]
            if learned is None:
                p = mlp(state, f"{key}.ref_point_head", anchor_code(scaled[:, :, 0], config.width), 2)
                p = p * mlp(state, f"{key}.query_scale", x, 2) if i else p
            else:
                p = learned
            key = f"{key}.layers.{i}"
            read = attention(state, f"{key}.self_attn", x + p, x + p, x, config.heads)
            x = layer_norm(state, f"{key}.norm2", x + read)
            read = deformable(state, f"{key}.cross_attn", x + p, scaled, v, pad, shapes, config.heads)
            x = layer_norm(state, f"{key}.norm1", x + read)
            x = layer_norm(state, f"{key}.norm3", x + feed_forward(state, key, x))
            states.append(x)
            move(i, x)
        return states

    pairs = config.queries // 2
    if dab:
        anchors = state["refpoint_embed.weight"].sigmoid().expand(batch, -1, -1)
        box = [anchors[:, :pairs], anchors[:, pairs:]]
        content, learned = state["tgt_embed.weight"].expand(batch, -1, -1), None
        relation = state["verb_tgt_embed.weight"]
    else:
        place, content, relation = state["query_embed.weight"].chunk(3, -1)
        learned, content = place.expand(batch, -1, -1), content.expand(batch, -1, -1)
        ends = (learned[:, :pairs], learned[:, pairs:])
        box = [
            linear(state, f"transformer.reference_points_{r}", e).sigmoid()
            for r, e in zip(("sub", "obj"), ends, strict=True)
        ]
    starts, boxes = [], []

    def move_entities(i: int, x: Tensor) -> None:
        starts.append(list(box))
        for side, role in enumerate(("sub", "obj")):
            box[side] = refine(state, f"{role}_bbox_embed.{i}", x.chunk(2, 1)[side], box[side])
        boxes.append(list(box))

    entities = decode("ho_decoder", content, learned, lambda: torch.cat(box, 1), move_entities)
    s, o = entities[-1].chunk(2, 1)
    y = (relation[:pairs] + relation[pairs:]).expand(batch, -1, -1)
    if config.relation_query != "learned":
        total = torch.zeros_like(s)
        for k in range(16):
            key = "transformer.verb_tgt_generator"
            product = linear(state, f"{key}.fc_1.{k}", s) * linear(state, f"{key}.fc_2.{k}", o)
            total = total + linear(state, f"{key}.fc_3.{k}", product.relu())
        y = total.relu() + (y if config.relation_query == "mbf_learned" else 0)
    learned = None
    if not dab:
        table = state.get("transformer.verb_query_embed.weight")
        learned = s + o if table is None else table.expand(batch, -1, -1)

    def move_relations(i: int, x: Tensor) -> None:
        for side, role in enumerate(("sub", "obj")):
            box[side] = refine(state, f"{role}_bbox_embed.{i + config.decoder_layers}", x, box[side])

    relations = decode("verb_decoder", y, learned, lambda: (box[0] + box[1]) / 2, move_relations)
    if config.fusion == "late":
        x = resize(pooled)
        halves = []
        for name, queries, words, ignored in (
            ("obj_fusion", entities[-1], x[:num_objects], None if text_mask is None else text_mask[:num_objects]),
            ("verb_fusion", relations[-1], x[num_objects:], None if text_mask is None else text_mask[num_objects:]),
        ):
            joint, key, stages = torch.cat([queries, words.expand(batch, -1, -1)], 1), f"transformer.{name}", []
            keys = None
            if ignored is not None:
                keys = torch.cat([torch.zeros(queries.shape[1], dtype=torch.bool), ignored]).expand(batch, -1)
            for i in range(config.decoder_layers):
                n = layer_norm(state, f"{key}.layers.{i}.norm1", joint)
                joint = joint + attention(state, f"{key}.layers.{i}.self_attn", n, n, n, config.heads, keys)
                n = layer_norm(state, f"{key}.layers.{i}.norm2", joint)
                joint = joint + feed_forward(state, f"{key}.layers.{i}", n)
                stages.append(layer_norm(state, f"{key}.norm", joint))
            halves.append(([q[:, : queries.shape[1]] for q in stages], [q[:, queries.shape[1] :] for q in stages]))
        (entities, objects), (relations, verbs) = halves
        for i, features in enumerate(entities):
            boxes[i] = [
                refine(state, f"{role}_bbox_embed.{i}", features.chunk(2, 1)[side], starts[i][side])
                for side, role in enumerate(("sub", "obj"))
            ]
    else:
        objects = [resize(x)[:, :num_objects] for x in texts]
        verbs = [resize(x)[:, num_objects:] for x in texts]

    def score(features: Tensor, words: Tensor, bias: str) -> Tensor:
        e = linear(state, "projection_text", words / words.norm(dim=-1, keepdim=True) / 2)
        return torch.einsum("bqc,btc->bqt", features + state[bias], e) - math.log(99)

    logits = [score(h, t, "bias_obj_a") for h, t in zip(entities, objects, strict=True)]
    return {
        "sub_logits": torch.stack([x[:, :pairs] for x in logits]),
        "obj_logits": torch.stack([x[:, pairs:] for x in logits]),
        "relation_logits": torch.stack([score(h, t, "bias_pred_a") for h, t in zip(relations, verbs, strict=True)]),
        "sub_boxes": torch.stack([b[0] for b in boxes]),
        "obj_boxes": torch.stack([b[1] for b in boxes]),
    }
