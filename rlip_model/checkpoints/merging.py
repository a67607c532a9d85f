"""Interpolated weights of two checkpoints of one network: a fine-tuned one and the one it started from.

Between the two lie networks that keep more of what pre-training knew and lose little of what fine-tuning taught (WiSE-FT, Wortsman et al.,
CVPR 2022).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlip_model.checkpoints.files import (
    CONFIG,
    MEMBERS,
    METADATA,
    WEIGHTS,
    content_digest,
    member,
    read_json,
    read_tensors,
    save_weights,
    whole_folder,
    write_json,
)
from rlip_model.checkpoints.hub import model_config, read_config
from rlip_model.checkpoints.model_card import model_card
from rlip_model.config import ModelConfig
from rlip_model.errors import CheckpointError
from rlip_model.text import TOKENIZER

NAMES = ("the fine-tuned network", "its start")


def merged_tensors(
    finetuned: Mapping[str, Tensor], start: Mapping[str, Tensor], alpha: float, names: tuple[Any, Any] = NAMES
) -> dict[str, Tensor]:
    """Return alpha times the fine-tuned weights plus 1 - alpha times those of the start.

    Alpha 1 and 0 give the weights of either, bit by bit. Integers, such as counters, are those of the network with the larger share.

    Args:
        finetuned, start: tensors of the same names, shapes and types.
        alpha: share of the fine-tuned weights, 0 to 1.
        names: of the two, for errors.

    Raises:
        CheckpointError: alpha is out of range, the networks differ, or a weight is NaN or infinite; the sentence names the tensor.
    """
    check_alpha(alpha)
    for own, other, have, lack in ((finetuned, start, *names), (start, finetuned, *reversed(names))):
        if missing := sorted(own.keys() - other.keys()):
            raise CheckpointError(f"{have} has {missing[0]}, which {lack} lacks: merge two checkpoints of one network")
    merged = {}
    for name, one in finetuned.items():
        two = start[name]
        if one.shape != two.shape or one.dtype != two.dtype:
            kinds = [f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}" for value in (one, two)]
            raise CheckpointError(
                f"{name} is {kinds[0]} in {names[0]} and {kinds[1]} in {names[1]}: merge two checkpoints of one network"
            )
        for value, where in ((one, names[0]), (two, names[1])):
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise CheckpointError(f"{where}: {name} holds NaN or infinity: take other weights")
        merged[name] = _between(one, two, alpha)
    return merged


def check_alpha(alpha: float) -> None:
    """Refuse a share outside 0 to 1, NaN included, with a CheckpointError."""
    if not 0 <= alpha <= 1:
        raise CheckpointError(f"alpha is {alpha}: give a share of the fine-tuned weights from 0 to 1")


def _between(finetuned: Tensor, start: Tensor, alpha: float) -> Tensor:
    if alpha in (0, 1) or not finetuned.is_floating_point():
        return (finetuned if alpha >= 0.5 else start).clone()
    return torch.lerp(start.double(), finetuned.double(), alpha).to(finetuned.dtype)


@dataclass(frozen=True)
class Parent:
    """A checkpoint folder whose weights are merged, with what has to agree."""

    folder: Path
    tensors: dict[str, Tensor]
    config: ModelConfig
    tokenizer: bytes
    metadata: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Parent:
        """Read a checkpoint folder.

        Raises:
            CheckpointError: a file is missing or damaged, or a weight is NaN or infinite.
        """
        config = model_config(folder, read_config(folder))
        tokenizer = member(folder, TOKENIZER).read_bytes()
        metadata = read_json(member(folder, METADATA)) if (folder / METADATA).exists() else {}
        return cls(folder, read_tensors(member(folder, WEIGHTS)), config, tokenizer, metadata)

    def record(self) -> dict[str, Any]:
        """Return name and digest (SHA-256 over names and bytes of the tensors) for the metadata of what is made from it."""
        return {"name": self.metadata.get("name", self.folder.name), "weights": content_digest(self.tensors)}


def check_parents(finetuned: Parent, start: Parent) -> None:
    """Refuse checkpoints in the wrong order, of different networks or of different tokenizers; tensors are compared when they are merged.

    Raises:
        CheckpointError: the sentence names the first field or file that differs.
    """
    if (finetuned.metadata.get("stage"), start.metadata.get("stage")) == ("pretrain", "finetune"):
        raise CheckpointError(
            f"{finetuned.folder} is pre-trained and {start.folder} fine-tuned: the fine-tuned checkpoint comes first; swap the two"
        )
    # Dropout and the form of texts belong to training alone.
    one, two = (
        replace(parent.config.without_dropout(), label_texts="cleaned").to_dict() for parent in (finetuned, start)
    )
    for field, own, other in _differences(one, two):
        raise CheckpointError(
            f"{finetuned.folder / CONFIG} has {field} = {own}, {start.folder / CONFIG} has {other}: merge two checkpoints of one network"
        )
    if finetuned.tokenizer != start.tokenizer:
        raise CheckpointError(
            f"{finetuned.folder / TOKENIZER} and {start.folder / TOKENIZER} differ: merge two checkpoints of one network"
        )


def _differences(one: Mapping[str, Any], two: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the fields in which two configurations differ, with both values."""
    for field, value in one.items():
        if isinstance(value, dict):
            yield from _differences(value, two[field], f"{prefix}{field}.")
        elif value != two[field]:
            yield f"{prefix}{field}", value, two[field]


def save_merged(folder: Path, finetuned: Parent, start: Parent, alpha: float) -> None:
    """Write the checkpoint folder of interpolated weights: all but the weights is that of the fine-tuned checkpoint.

    Its metadata say nothing of figures, which were those of another network, and name both parents by the digest of their weights.

    Raises:
        CheckpointError: as `check_parents` and `merged_tensors`; nothing is written then.
    """
    check_parents(finetuned, start)
    files = (finetuned.folder / WEIGHTS, start.folder / WEIGHTS)
    tensors = merged_tensors(finetuned.tensors, start.tensors, alpha, files)
    parents = {"finetuned": finetuned.record(), "start": start.record()}
    names = [parent["name"] for parent in parents.values()]
    metadata = {key: value for key, value in finetuned.metadata.items() if key != "figures"}
    metadata |= {
        "name": f"{alpha:g} {names[0]} + {1 - alpha:g} {names[1]}",
        "merged": {"alpha": alpha, **parents},
    }
    with whole_folder(folder) as target:
        for name in MEMBERS:
            if name not in (WEIGHTS, METADATA, "README.md") and (finetuned.folder / name).exists():
                shutil.copyfile(member(finetuned.folder, name), target / name)
        save_weights(target / WEIGHTS, tensors)
        write_json(target / METADATA, metadata)
        (target / "README.md").write_text(model_card(finetuned.config, metadata))
