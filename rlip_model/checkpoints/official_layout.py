"""The key layout of the released checkpoints, as a two-way mapping to the clean names of this package.

An official tensor is one tensor of ours under another name, one slice of a stacked tensor, or several tensors of ours
one after the other (Swin's qkv). Box heads of deformable networks appear three times in released files: at the top level and as
aliases inside the decoders; the top level wins. Source: key lists of the released RLIPv2 models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rlip_model.config import Anchors, ModelConfig

Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]

_DEFORMABLE: Rules = (
    (r"\.offsets\.(weight|bias)$", r".sampling_offsets.\1"),
    (r"\.weights\.(weight|bias)$", r".attention_weights.\1"),
    (r"\.values\.", ".value_proj."),
    (r"\.output\.(weight|bias)$", r".output_proj.\1"),
)
_FEED_FORWARD: Rules = ((r"\.feed_forward\.first\.", ".linear1."), (r"\.feed_forward\.second\.", ".linear2."))
_DECODER_LAYER: Rules = (
    (r"\.self_attention\.", ".self_attn."),
    (r"\.norm_self\.", ".norm2."),
    (r"\.cross_attention\.", ".cross_attn."),
    (r"\.norm_cross\.", ".norm1."),
    (r"\.norm_feed_forward\.", ".norm3."),
    (r"\.anchor_position\.from_sine\.", ".ref_point_head."),
    (r"\.anchor_position\.scale\.", ".query_scale."),
    *_FEED_FORWARD,
    *_DEFORMABLE,
)
_DENSE_DECODER_LAYER: Rules = (
    (r"\.self_attention\.", ".self_attn."),
    (r"\.norm_self\.", ".norm1."),
    (r"\.cross_attention\.", ".cross_attn_image."),
    (r"\.norm_cross\.", ".norm3."),
    (r"\.norm_feed_forward\.", ".norm4."),
    *_FEED_FORWARD,
)
"""RLIPv1-ParSe; norm2 belonged to a part that its release no longer has."""
_BIFUSION: Rules = (
    (r"\.gate_visual$", ".gamma_v"),
    (r"\.gate_label$", ".gamma_l"),
    (r"\.norm_visual\.", ".layer_norm_v."),
    (r"\.norm_label\.", ".layer_norm_l."),
    (r"\.query\.", ".attn.v_proj."),
    (r"\.key\.", ".attn.l_proj."),
    (r"\.value_visual\.", ".attn.values_v_proj."),
    (r"\.value_label\.", ".attn.values_l_proj."),
    (r"\.output_visual\.", ".attn.out_v_proj."),
    (r"\.output_label\.", ".attn.out_l_proj."),
)
_ENCODER: Rules = (
    (r"\.attention\.", ".self_attn."),
    (r"\.norm_attention\.", ".norm1."),
    (r"\.norm_feed_forward\.", ".norm2."),
    *_FEED_FORWARD,
    *_DEFORMABLE,
)
_SWIN: Rules = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^norms\.(\d)\.", lambda m: f"norm{int(m[1]) + 1}."),
    (r"^stages\.", "layers."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.relative_position_bias\.", ".attn."),
    (r"\.attention\.[qkv]_proj\.", ".attn.qkv."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
)
_QUERIES: dict[str, str] = {
    "queries.content": "tgt_embed.weight",
    "queries.anchors": "refpoint_embed.weight",
    "queries.table": "query_embed.weight",
    "queries.position": "query_embed.weight",
    "queries.relation_position": "transformer.verb_query_embed.weight",
}
_HEADS: Rules = (
    (r"^heads\.projection\.", "projection_text."),
    (r"^heads\.entity_bias$", "bias_obj_a"),
    (r"^heads\.relation_bias$", "bias_pred_a"),
    (r"^resizer\.linear\.", "transformer.resizer.fc."),
    (r"^resizer\.norm\.", "transformer.resizer.layer_norm."),
    (r"^text_encoder\.", "transformer.text_encoder."),
    (r"^pyramid\.projections\.", "input_proj."),
    (r"^pyramid\.level_embedding$", "transformer.level_embed"),
    (r"^classes\.", "class_embed."),
    (r"^queries\.points\.(sub|obj)\.", r"transformer.reference_points_\1."),
    (r"^queries\.box_position\.", "transformer.coord_proj."),
)
_BRANCHES = {"sub": "fc_1", "obj": "fc_2", "out": "fc_3"}


def _apply(rules: Rules, name: str) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


@dataclass(frozen=True)
class Part:
    """One tensor of ours, or one index of its first axis."""

    name: str
    index: int | None = None

    def of(self, tensors: Mapping[str, Tensor]) -> Tensor:
        value = tensors[self.name]
        return value if self.index is None else value[self.index]


@dataclass
class Entry:
    """An official tensor: its parts one after the other on the first axis, and other keys that hold the same tensor."""

    parts: list[Part] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Layout:
    """entries: official key -> where it is here. dead: official tensors that no forward pass reads, with their shapes."""

    entries: dict[str, Entry]
    dead: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class LoadReport:
    """missing: official keys that were not given; unexpected: given keys that mean nothing; loaded: canonical keys taken."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    loaded: tuple[str, ...]


def layout_of(model: nn.Module) -> Layout:
    """The official layout of a network of this package (`Rlip` or `DabDeformableDetr`)."""
    config = model.config
    assert isinstance(config, ModelConfig)
    entries: dict[str, Entry] = {}
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        for key, part, aliases in _official_keys(name, value, config):
            entry = entries.setdefault(key, Entry())
            entry.parts.append(part)
            entry.aliases.extend(aliases)
    return Layout(entries, _dead_keys(config))


def _official_keys(name: str, value: Tensor, config: ModelConfig) -> list[tuple[str, Part, list[str]]]:
    """Official key(s) of one tensor of ours, with the aliases of each."""
    if name.startswith("relation_seed."):
        role, kind = name.removeprefix("relation_seed.").split("_")
        prefix = f"transformer.verb_tgt_generator.{_BRANCHES[role]}"
        return [(f"{prefix}.{k}.{kind}", Part(name, k), []) for k in range(len(value))]
    head = re.match(r"^(entity|relation)_decoder\.(sub|obj)_boxes\.(\d+)\.(.+)$", name)
    if head:
        decoder, role, index, rest = head.groups()
        inner = "ho_decoder" if decoder == "entity" else "verb_decoder"
        number = int(index) + (config.decoder_layers if decoder == "relation" else 0)
        alias = f"transformer.{inner}.{role}_bbox_embed.{index}.{rest}"
        return [(f"{role}_bbox_embed.{number}.{rest}", Part(name), [alias])]
    head = re.match(r"^decoder\.boxes\.(.+)$", name)
    if head:
        return [(f"bbox_embed.{head[1]}", Part(name), [f"transformer.decoder.bbox_embed.{head[1]}"])]
    return [(_official_key(name, config), Part(name), [])]


def official_encoder(anchors: Anchors) -> str:
    """Return the name of the encoder in released files."""
    return "ho_encoder" if anchors == "points" else "encoder"


def _official_key(name: str, config: ModelConfig) -> str:
    encoder = official_encoder(config.anchors)
    if name.startswith("backbone."):
        body = name.removeprefix("backbone.")
        return "backbone.0.body." + (_resnet_key(body) if config.backbone.kind == "resnet" else _apply(_SWIN, body))
    if name.startswith("encoder.layers."):
        return f"transformer.{encoder}" + _apply(_ENCODER, name.removeprefix("encoder"))
    if match := re.match(r"^encoder\.fusions\.(\d+)(\..+)$", name):
        return f"transformer.{encoder}.VLFuse_layers.{match[1]}.b_attn" + _apply(_BIFUSION, match[2])
    if match := re.match(r"^encoder\.text_layers\.(\d+)\.layer\.(.+)$", name):
        return f"transformer.{encoder}.roberta_layers.{match[1]}.{match[2]}"
    if match := re.match(r"^entity_decoder\.(sub|obj)_boxes\.(layers\..+)$", name):
        return f"{match[1]}_bbox_embed.{match[2]}"
    if config.is_dense and (match := re.match(r"^pyramid\.projections\.0\.0\.(\w+)$", name)):
        return f"input_proj.{match[1]}"
    for ours, theirs in (
        ("entity_decoder", "ho_decoder"),
        ("relation_decoder", "verb_decoder"),
        ("decoder", "decoder"),
    ):
        if name.startswith(f"{ours}."):
            rules = _DENSE_DECODER_LAYER if config.is_dense else _DECODER_LAYER
            return f"transformer.{theirs}" + _apply(rules, name.removeprefix(ours))
    if match := re.match(r"^late_fusion\.(entities|relations)(\..+)$", name):
        fusion = "obj_fusion" if match[1] == "entities" else "verb_fusion"
        return f"transformer.{fusion}" + _apply(_ENCODER, match[2])
    if name == "queries.relation_content":
        return "transformer.verb_tgt.weight" if config.tagger else "verb_tgt_embed.weight"
    return _QUERIES.get(name) or _apply(_HEADS, name)


def _resnet_key(name: str) -> str:
    if name.startswith("stem.embedder."):
        return re.sub(r"^stem\.embedder\.(convolution|normalization)\.", lambda m: f"{_short(m[1])}1.", name)
    match = re.match(r"^stages\.(\d)\.layers\.(\d+)\.(.+)$", name)
    assert match, name
    block = f"layer{int(match[1]) + 1}.{match[2]}"
    if part := re.match(r"^shortcut\.(convolution|normalization)\.(\w+)$", match[3]):
        return f"{block}.downsample.{int(part[1] == 'normalization')}.{part[2]}"
    part = re.match(r"^layer\.(\d)\.(convolution|normalization)\.(\w+)$", match[3])
    assert part, name
    return f"{block}.{_short(part[2])}{int(part[1]) + 1}.{part[3]}"


def _short(kind: str) -> str:
    return "conv" if kind == "convolution" else "bn"


def _dead_keys(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Tensors that released files carry and no forward pass reads."""
    dead: dict[str, tuple[int, ...]] = {}
    if config.tagger:
        dead["query_embed.weight"] = (config.queries, 3 * config.width)
    if config.gate == "none":
        encoder = official_encoder(config.anchors)
        for index in range(config.fusions):
            prefix = f"transformer.{encoder}.VLFuse_layers.{index}.b_attn"
            dead[f"{prefix}.gamma_v"] = (config.width,)
            dead[f"{prefix}.gamma_l"] = (config.text.width,)
    return dead


def official_state_dict(model: nn.Module, tensors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """All official keys of a network, aliases and dead tensors (zeros) included.

    Args:
        tensors: values by our names in place of the network's own (gradients, for example); entries that need
            a name which is not there are left out.
    """
    layout = layout_of(model)
    values = model.state_dict() if tensors is None else tensors
    result: dict[str, Tensor] = {}
    for key, entry in layout.entries.items():
        if any(part.name not in values for part in entry.parts):
            continue
        parts = [part.of(values) for part in entry.parts]
        value = parts[0] if len(parts) == 1 else torch.cat(parts)
        result.update(dict.fromkeys((key, *entry.aliases), value))
    if tensors is None:
        result.update({key: torch.zeros(shape) for key, shape in layout.dead.items()})
        result.update(_position_tables(model))
    return result


def _position_tables(model: nn.Module) -> dict[str, Tensor]:
    """Swin's integer index tables: they follow from the window size, and released files carry them."""
    tables = {}
    for name, value in model.named_buffers():
        if name.endswith("relative_position_index"):
            side = int(value.numel() ** 0.5)
            tables[_official_key(name, model.config)] = value.view(side, side)  # type: ignore[arg-type]
    return tables


DERIVED = re.compile(r"(^|\.)(relative_position_index|position_ids|num_batches_tracked|attn_mask)$")
"""Official tensors that are computed here; accepted and dropped."""


@torch.no_grad()
def load_official(model: nn.Module, state: Mapping[str, Tensor]) -> LoadReport:
    """Copy official tensors into a network.

    Where an aliased key and its top-level key are both given, the top-level one wins.

    Raises:
        ValueError: a tensor has another shape; the sentence names it. Nothing was changed then.
    """
    layout = layout_of(model)
    own = model.state_dict()
    jobs: list[tuple[Tensor, Tensor]] = []
    missing, loaded, known = [], [], set(layout.dead)
    for key, entry in layout.entries.items():
        known.update((key, *entry.aliases))
        source = next((state[name] for name in (key, *entry.aliases) if name in state), None)
        if source is None:
            missing.append(key)
            continue
        targets = [part.of(own) for part in entry.parts]
        shape = (sum(len(target) for target in targets), *targets[0].shape[1:]) if targets[0].dim() else ()
        if tuple(source.shape) != tuple(shape):
            raise ValueError(f"{key} has shape {tuple(source.shape)}, this network needs {tuple(shape)}")
        pieces = torch.split(source, [len(target) for target in targets]) if len(targets) > 1 else [source]
        jobs.extend(zip(targets, pieces, strict=True))
        loaded.append(key)
    for target, piece in jobs:
        target.copy_(piece)
    unexpected = [key for key in state if key not in known and not DERIVED.search(key)]
    return LoadReport(tuple(missing), tuple(unexpected), tuple(loaded))
