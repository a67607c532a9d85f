"""Recognise the variant of a released state dict from its tensors and stored command line; every field with its evidence."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from rlip_model.checkpoints.official_layout import official_encoder
from rlip_model.config import Anchors, BackboneConfig, Gate, LabelTexts, ModelConfig, RelationQuery, TextConfig

ROBERTA_HEAD_WIDTH = 64
PUBLISHED_HEADS = 8
GATES: dict[str, Gate] = {"VXAc": "vxac", "GLIP": "glip", "XGating": "none"}
RELATION_QUERIES: dict[str, RelationQuery] = {"vanilla": "learned", "MBF": "mbf", "vanilla_MBF": "mbf_learned"}

OPEN_IMAGES = "oi_sgg"
"""Name of Open Images on the published command lines (`--dataset_file`)."""

_DECODER = "transformer.ho_decoder.layers.0"
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Recognised:
    """The configuration of a released file, and for each decision what it rests on."""

    config: ModelConfig
    evidence: dict[str, str]


def recognise(
    state: Mapping[str, Tensor],
    arguments: Mapping[str, Any] | None = None,
    gate: Gate | None = None,
    label_texts: LabelTexts | None = None,
) -> Recognised:
    """Return variant, backbone, sizes, gate and text encoder of a state dict in the official layout.

    Args:
        state: official keys and tensors.
        arguments: the stored command line, where there is one.
        gate: the caller's word for the fusion gate, which some files leave undecided.
        label_texts: the caller's word for the form of the label texts; only the stored command line tells it otherwise.

    Raises:
        ValueError: a key that every variant has is missing, an argument is no number, or the gate cannot be decided; the sentence
            names key, argument or option.
    """
    arguments = arguments or {}
    shapes: dict[str, tuple[int, ...]] = {key: tuple(value.shape) for key, value in state.items()}
    dense = f"{_DECODER}.cross_attn_image.in_proj_weight" in shapes
    boxes = "refpoint_embed.weight" in shapes
    tagger = "transformer.coord_proj.weight" in shapes
    anchors: Anchors = "none" if dense else "boxes" if boxes else "points"
    size_key = "query_embed.weight" if dense else "transformer.level_embed"
    levels, width = _shape(shapes, size_key, 2)
    encoder = f"transformer.{official_encoder(anchors)}"
    encoder_layers = _count(shapes, rf"^{encoder}\.layers\.(\d+)\.")
    decoder_layers = _count(shapes, r"^transformer\.ho_decoder\.layers\.(\d+)\.")
    fusions = _count(shapes, rf"^{encoder}\.VLFuse_layers\.(\d+)\.")
    late = _count(shapes, r"^transformer\.obj_fusion\.layers\.(\d+)\.")
    branches = _count(shapes, r"^transformer\.verb_tgt_generator\.fc_1\.(\d+)\.")
    heads = _number(arguments, "nheads", PUBLISHED_HEADS)
    if heads < 1:
        raise ValueError(f"the file's args.nheads is {heads}: attention needs at least one head")
    query_key = "transformer.verb_tgt.weight" if tagger else "tgt_embed.weight" if boxes else "query_embed.weight"
    fusion_prefix = f"{encoder}.VLFuse_layers.0.b_attn"
    own, read = f"{encoder}.layers.0.self_attn", f"{_DECODER}.cross_attn"
    no_points = 4, "not used: dense attention"
    # Each field with what it rests on.
    found: dict[str, tuple[Any, str]] = {
        "backbone": _backbone(shapes, arguments),
        "text": _text(shapes),
        "anchors": (
            anchors,
            "cross_attn_image present" if dense else f"refpoint_embed.weight {'present' if boxes else 'absent'}",
        ),
        "fusion": (
            "joint" if dense else "alif" if fusions else "late",
            f"{fusions} VLFuse_layers, {late} late fusion layers{', dense attention' if dense else ''}",
        ),
        "gate": _gate(state, fusion_prefix, arguments, gate)
        if fusions
        else ("vxac", "not used: no fusion in the encoder"),
        "relation_query": ("learned", "not used: the pair's entity features are the position")
        if dense
        else _relation_query(branches > 0, arguments),
        "tagger": (tagger, f"transformer.coord_proj {'present' if tagger else 'absent'}"),
        "queries": (_shape(shapes, query_key)[0], f"rows of {query_key}"),
        "width": (width, f"columns of {size_key}"),
        "heads": (heads, "args.nheads" if "nheads" in arguments else "no args.nheads: 8, as in every released model"),
        "levels": (1, "dense attention reads one") if dense else (levels, "rows of transformer.level_embed"),
        "encoder_points": no_points
        if dense
        else (_points(shapes, own, heads, levels), f"size of {own}.sampling_offsets"),
        "decoder_points": no_points
        if dense
        else (_points(shapes, read, heads, levels), f"size of {read}.sampling_offsets"),
        "feed_forward": (_shape(shapes, f"{encoder}.layers.0.linear1.bias")[0], f"size of {encoder}.layers.0.linear1"),
        "encoder_layers": (encoder_layers, f"layers under {encoder}"),
        "decoder_layers": (decoder_layers, "layers under transformer.ho_decoder"),
        "fusion_interval": (
            -(-encoder_layers // fusions) if fusions else 2,
            f"{encoder_layers} layers, {fusions} fusions",
        ),
        "fusion_levels": (levels, "args.fusion_last_vis is off")
        if fusions and arguments.get("fusion_last_vis") is False
        else (1, "the coarsest, as in every released model"),
        "fusion_width": (
            (_shape(shapes, f"{fusion_prefix}.attn.v_proj.bias")[0], f"size of {fusion_prefix}.attn.v_proj")
            if fusions
            else (2048, "not used: no fusion in the encoder")
        ),
        "fusion_heads": (heads, "as many as heads"),
        "late_feed_forward": (
            (
                _shape(shapes, "transformer.obj_fusion.layers.0.linear1.bias")[0],
                "size of transformer.obj_fusion.layers.0.linear1",
            )
            if late
            else (1024, "not used: no late fusion")
        ),
        "relation_branches": (branches, "branches of verb_tgt_generator")
        if branches
        else (16, "not used: no verb_tgt_generator"),
        "dropout": _dropout(arguments, boxes),
        "fusion_dropout": (0.1, "fixed in the published code"),
        "label_texts": _label_texts(arguments, label_texts),
    }
    config = ModelConfig(**{name: value for name, (value, _) in found.items()})
    config = ModelConfig.from_dict(config.to_dict())  # bounds and types
    words = {"backbone": "", "text": ""}
    return Recognised(config, {name: words.get(name, f"{value}: ") + why for name, (value, why) in found.items()})


def _shape(shapes: Shapes, key: str, dimensions: int | None = None) -> tuple[int, ...]:
    if key not in shapes:
        detector = "class_embed.0.bias" in shapes or "class_embed.bias" in shapes
        hint = "; it looks like a box detector's, which `rlip import-detector` takes" if detector else ""
        raise ValueError(f"the file has no {key}: it is no checkpoint of RLIPv2, RLIPv1 or R-Tagger{hint}")
    if not shapes[key] or len(shapes[key]) != (dimensions or len(shapes[key])):
        raise ValueError(f"{key} has shape {shapes[key]}, which no checkpoint of RLIPv2, RLIPv1 or R-Tagger has")
    return shapes[key]


def _number(arguments: Mapping[str, Any], name: str, default: Any) -> Any:
    """A stored argument as a number of the default's type. Raises ValueError for anything else."""
    value = arguments.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"the file's args.{name} is {value!r}, which is no number")
    return type(default)(value)


def _dropout(arguments: Mapping[str, Any], boxes: bool) -> tuple[float, str]:
    usual = 0.0 if boxes else 0.1
    why = "args.dropout" if "dropout" in arguments else "no args.dropout: that of the released scripts"
    return _number(arguments, "dropout", usual), why


def _count(shapes: Shapes, pattern: str) -> int:
    """Count the different numbers in the first group of `pattern`."""
    return len({match[1] for key in shapes if (match := re.match(pattern, key))})


def _points(shapes: Shapes, attention: str, heads: int, levels: int) -> int:
    return _shape(shapes, f"{attention}.sampling_offsets.bias")[0] // (heads * max(levels, 1) * 2)


def _backbone(shapes: Shapes, arguments: Mapping[str, Any]) -> tuple[BackboneConfig, str]:
    patches = "backbone.0.body.patch_embed.proj.weight"
    if patches in shapes:
        stem = shapes[patches][0]
        known = {96: ("parseda_swin_tiny", "Swin-T"), 192: ("parseda_swin_large", "Swin-L")}
        if stem not in known:
            raise ValueError(
                f"{patches} has {stem} channels: known are {', '.join(f'{k} ({v[1]})' for k, v in known.items())}"
            )
        preset, name = known[stem]
        swin = ModelConfig.preset(preset).backbone
        rate = _number(arguments, "drop_path_rate", swin.drop_path)
        return replace(swin, drop_path=rate), f"{name}: {stem} channels in {patches}"
    stages = [_count(shapes, rf"^backbone\.0\.body\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4)]
    bottleneck = "backbone.0.body.layer1.0.conv3.weight" in shapes
    last = 3 if bottleneck else 2
    widths = [_shape(shapes, f"backbone.0.body.layer{stage}.0.conv{last}.weight")[0] for stage in (1, 2, 3, 4)]
    backbone = BackboneConfig(
        kind="resnet",
        stem=_shape(shapes, "backbone.0.body.conv1.weight")[0],
        depths=(stages[0], stages[1], stages[2], stages[3]),
        widths=(widths[0], widths[1], widths[2], widths[3]),
        block="bottleneck" if bottleneck else "basic",
    )
    return backbone, f"ResNet with {stages} blocks: keys under backbone.0.body"


def _text(shapes: Shapes) -> tuple[TextConfig, str]:
    prefix = "transformer.text_encoder"
    vocabulary, width = _shape(shapes, f"{prefix}.embeddings.word_embeddings.weight", 2)
    layers = _count(shapes, rf"^{re.escape(prefix)}\.encoder\.layer\.(\d+)\.")
    text = TextConfig(
        vocabulary=vocabulary,
        width=width,
        layers=layers,
        heads=max(1, width // ROBERTA_HEAD_WIDTH),
        feed_forward=_shape(shapes, f"{prefix}.encoder.layer.0.intermediate.dense.bias")[0],
        positions=_shape(shapes, f"{prefix}.embeddings.position_embeddings.weight")[0],
    )
    return text, f"RoBERTa of {layers} layers, width {width}, {vocabulary} tokens: shapes under {prefix}"


def _gate(
    state: Mapping[str, Tensor], prefix: str, arguments: Mapping[str, Any], given: Gate | None
) -> tuple[Gate, str]:
    """The fusion gate. VXAc and GLIP share keys and shapes; VXAc trains the first element only, so the others stay equal."""
    if given is not None:
        return given, "the caller's word"
    stored = arguments.get("gating_mechanism")
    if isinstance(stored, str) and stored in GATES:
        return GATES[stored], f"args.gating_mechanism = {stored}"
    gammas = [state[key] for key in (f"{prefix}.gamma_v", f"{prefix}.gamma_l") if key in state]
    if len(gammas) < 2:
        raise ValueError(
            f"the file has no {prefix}.gamma_v and .gamma_l: say which fusion gate it uses with --gate vxac|glip|none"
        )
    rest_equal = all(bool((gamma[1:] == gamma[1]).all()) for gamma in gammas)
    if not rest_equal:
        return "glip", "elements of gamma differ"
    if any(bool(gamma[0] != gamma[1]) for gamma in gammas):
        return "vxac", "only the first element of gamma was trained"
    raise ValueError(
        "all elements of gamma are equal, so the fusion gate is undecided: name it with --gate vxac|glip|none"
    )


def _relation_query(uses_mbf: bool, arguments: Mapping[str, Any]) -> tuple[RelationQuery, str]:
    stored = arguments.get("verb_query_tgt_type")
    if isinstance(stored, str) and stored in RELATION_QUERIES:
        return RELATION_QUERIES[stored], f"args.verb_query_tgt_type = {stored}"
    if not uses_mbf:
        return "learned", "no verb_tgt_generator"
    return "mbf_learned", "verb_tgt_generator present; every released model with one uses vanilla_MBF"


def _label_texts(arguments: Mapping[str, Any], given: LabelTexts | None) -> tuple[LabelTexts, str]:
    """The form of the label texts: the published code reads those of Open Images as they are, and has all others in small letters."""
    if given is not None:
        return given, "the caller's word"
    if "dataset_file" not in arguments:
        return "cleaned", "no args.dataset_file: not a network fine-tuned on Open Images, unless --label-texts says so"
    published = arguments["dataset_file"] == OPEN_IMAGES
    return "published" if published else "cleaned", f"args.dataset_file = {arguments['dataset_file']}"
