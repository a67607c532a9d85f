"""Starting weights: a box detector for the vision side, a pretrained RoBERTa for the text side, or a network with more queries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from rlip_model.checkpoints.files import WEIGHTS, member, read_tensors
from rlip_model.checkpoints.hub import local_folder
from rlip_model.checkpoints.official_layout import layout_of, load_official, official_encoder
from rlip_model.config import ModelConfig
from rlip_model.errors import CheckpointError
from rlip_model.model import Rlip, build_model

DETR_SIGN = "transformer.decoder.layers.0.multihead_attn.in_proj_weight"
"""A key that DETR has and deformable detectors do not."""
_DETR_PARTS = {"multihead_attn": "cross_attn_image", "norm2": "norm3", "norm3": "norm4"}


@dataclass(frozen=True)
class InitialisationReport:
    """Keys that were filled, those that keep their fresh values, and keys of the source that have no place here."""

    filled: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]


def initialise_from_detector(model: Rlip, folder: Path | str) -> InitialisationReport:
    """Fill a network from a detector folder (`model.safetensors` in the layout of (DAB-)Deformable-DETR or DETR).

    Raises:
        CheckpointError: the file is missing or damaged, or a tensor does not fit.
    """
    file = Path(folder) / WEIGHTS
    if not file.exists():
        raise CheckpointError(f"{file} is missing: give a folder with a detector's weights")
    state = read_tensors(member(Path(folder), WEIGHTS))
    try:
        return initialise_from_detector_state(model, state)
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}; give a detector of the recipe's sizes") from None


@torch.no_grad()
def initialise_from_detector_state(model: Rlip, state: Mapping[str, Tensor]) -> InitialisationReport:
    """As `initialise_from_detector`, from a state dict (see the released conversion scripts).

    Encoder, pyramid and backbone go to their namesakes. The detector's decoder layers go to both decoders, as many as
    these have. Of its box heads (one per layer) the first go to the entity decoder, the following to the relation decoder,
    for subjects and objects alike; DETR has one box head. Queries go to the first rows. Class heads have no place.
    A detector with the other kind of attention, dense or deformable, gives its backbone alone.
    """
    config = model.config
    filled: dict[str, Tensor] = {}
    used: set[str] = set()
    own = {**model.queries.state_dict()}
    known = layout_of(model).entries
    targets_of = _detr_targets if config.is_dense else _targets
    if config.is_dense != (DETR_SIGN in state):
        targets_of = _backbone_targets
    for key, value in state.items():
        targets = {name: tensor for name, tensor in targets_of(key, value, config, own).items() if name in known}
        if targets:
            used.add(key)
            filled.update(targets)
    report = load_official(model, filled)
    return InitialisationReport(report.loaded, report.missing, tuple(key for key in state if key not in used))


def _backbone_targets(key: str, value: Tensor, config: ModelConfig, queries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    del config, queries
    return {key: value} if key.startswith("backbone.") else {}


def _detr_targets(key: str, value: Tensor, config: ModelConfig, queries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official tensors of RLIPv1-ParSe that one tensor of DETR fills; subjects and objects start from the same queries."""
    if key.startswith(("backbone.", "input_proj.", "transformer.encoder.")):
        return {key: value}
    if key.startswith("bbox_embed."):
        return {f"{role}_{key}": value for role in ("sub", "obj")}
    if key.startswith("transformer.decoder."):
        rest = re.sub(
            r"\.(multihead_attn|norm[23])\.",
            lambda m: f".{_DETR_PARTS[m[1]]}.",
            key.removeprefix("transformer.decoder."),
        )
        return {f"transformer.{name}.{rest}": value for name in ("ho_decoder", "verb_decoder")}
    if key == "query_embed.weight":
        return {key: torch.cat([_first_rows(value, role) for role in queries["position"].chunk(2)])}
    return {}


def _targets(key: str, value: Tensor, config: ModelConfig, queries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official tensors of the relation network that one detector tensor fills."""
    if key.startswith(("backbone.", "input_proj.")) or key == "transformer.level_embed":
        return {key: value}
    if key.startswith("transformer.encoder."):
        encoder = official_encoder(config.anchors)
        return {key.replace("transformer.encoder.", f"transformer.{encoder}."): value}
    if match := re.match(r"^bbox_embed\.(\d+)\.(.+)$", key):
        if int(match[1]) >= 2 * config.decoder_layers:
            return {}
        return {f"{role}_bbox_embed.{match[1]}.{match[2]}": value for role in ("sub", "obj")}
    if match := re.match(r"^transformer\.decoder\.(layers\.(\d+)\..+|query_scale\..+|ref_point_head\..+)$", key):
        if match[2] is not None and int(match[2]) >= config.decoder_layers:
            return {}
        if match[2] is None and config.anchors != "boxes":
            return {}
        return {f"transformer.{name}.{match[1]}": value for name in ("ho_decoder", "verb_decoder")}
    if match := re.match(r"^transformer\.reference_points\.(weight|bias)$", key):
        if config.anchors != "points":
            return {}
        return {f"transformer.reference_points_{role}.{match[1]}": value for role in ("sub", "obj")}
    return _query_targets(key, value, queries)


def _query_targets(key: str, value: Tensor, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if key == "tgt_embed.weight" and "content" in own:
        return {
            "tgt_embed.weight": _first_rows(value, own["content"]),
            "verb_tgt_embed.weight": _first_rows(value, own["relation_content"]),
        }
    if key == "refpoint_embed.weight" and "anchors" in own:
        return {key: _first_rows(value, own["anchors"])}
    if key == "query_embed.weight" and "table" in own:
        width = own["table"].shape[1] // 3
        # [position | content] of Deformable-DETR; the Swin detector has only one of the two.
        blocks = torch.split(value, width, dim=1)
        return {key: _first_rows(torch.cat([blocks[0], blocks[-1], blocks[-1]], dim=1), own["table"])}
    return {}


def _first_rows(source: Tensor, own: Tensor) -> Tensor:
    """The first rows of the detector's table; rows it does not have keep their fresh values."""
    result = own.clone()
    rows = min(len(source), len(own))
    result[:rows] = source[:rows].to(own)
    return result


@torch.no_grad()
def initialise_text_encoder(model: Rlip, name_or_folder: Path | str) -> InitialisationReport:
    """Fill the text encoder from a pretrained RoBERTa: a folder, or a name on the Hub. A pooler that it lacks stays fresh.

    Returns:
        Names within the text encoder.

    Raises:
        CheckpointError: it cannot be had, is damaged or has another size.
    """
    try:
        folder = local_folder(name_or_folder, (WEIGHTS,))
        source = read_tensors(member(folder, WEIGHTS))
    except CheckpointError as error:
        raise CheckpointError(
            f"no text encoder at {name_or_folder}: give a folder with a RoBERTa model ({WEIGHTS}) or a name that can be "
            f"downloaded ({error})"
        ) from None
    source = {name.removeprefix("roberta."): value for name, value in source.items()}
    own = model.text_encoder.state_dict()
    fresh = {name: value for name, value in own.items() if name.startswith("pooler.")}
    found = {name: value for name, value in (fresh | source).items() if name in own}
    wrong = [name for name in own if name not in found or found[name].shape != own[name].shape]
    if wrong:
        have = tuple(found[wrong[0]].shape) if wrong[0] in found else "nothing"
        raise CheckpointError(
            f"the text encoder at {name_or_folder} does not fit the configuration: {wrong[0]} needs "
            f"{tuple(own[wrong[0]].shape)}, found {have}"
        )
    model.text_encoder.load_state_dict(found)
    filled = tuple(name for name in own if name in source)
    return InitialisationReport(
        filled, tuple(name for name in own if name not in source), tuple(name for name in source if name not in own)
    )


def with_fewer_queries(model: Rlip, queries: int, keep: Literal["pairs", "rows"] = "pairs") -> Rlip:
    """A copy of a network that has only `queries` of its queries.

    Args:
        keep: `pairs` keeps the first pairs whole. `rows` cuts the end of every table, as the released fine-tuning of all networks
            but ParSe did: rows in the middle change from subject to object, and pairs are mixed (200 to 128: the first 36 objects
            are old subjects).
    Raises:
        ValueError: the network has fewer queries than wanted.
    """
    if queries > model.config.queries:
        raise ValueError(f"the network has {model.config.queries} queries, fewer than the {queries} that are wanted")
    smaller = build_model(replace(model.config, queries=queries))
    own = smaller.state_dict()
    state = {}
    for name, value in model.state_dict().items():
        if value.shape == own[name].shape:
            state[name] = value
        elif keep == "pairs" and len(value) == model.config.queries:
            sub, obj = value.chunk(2)
            state[name] = torch.cat([sub[: queries // 2], obj[: queries // 2]])
        else:
            state[name] = value[: len(own[name])]
    smaller.load_state_dict(state)
    return smaller.train(model.training)
