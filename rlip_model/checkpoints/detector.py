"""Folders of the box detector, in the key layout of the published one, so that a converted published one fits too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from rlip_model.checkpoints.files import (
    CONFIG,
    METADATA,
    WEIGHTS,
    member,
    read_json,
    read_tensors,
    save_weights,
    whole_folder,
    write_json,
)
from rlip_model.checkpoints.hub import FORMAT, model_config, read_config, refuse_misfit
from rlip_model.checkpoints.official_layout import layout_of, load_official, official_state_dict
from rlip_model.config import ModelConfig
from rlip_model.dab_deformable_detr import DabDeformableDetr
from rlip_model.errors import CheckpointError


def save_detector(
    folder: Path | str, model: DabDeformableDetr, metadata: Mapping[str, Any], *, half: bool = False
) -> None:
    """Write a detector folder in the published key layout; `half` stores 16-bit floats."""
    tensors = _official(model)
    with whole_folder(Path(folder)) as target:
        save_weights(target / WEIGHTS, {key: value.half() if half else value for key, value in tensors.items()})
        config = {"format": FORMAT, "model": model.config.to_dict(), "num_classes": model.num_classes}
        write_json(target / CONFIG, config)
        write_json(target / METADATA, dict(metadata))


def load_detector(folder: Path | str) -> tuple[DabDeformableDetr, dict[str, Any]]:
    """Open a detector folder: the network in evaluation mode, and its metadata.

    Raises:
        CheckpointError: a file is missing, damaged or does not fit; the sentence names it.
    """
    folder = Path(folder)
    values = read_config(folder)
    classes = values.get("num_classes")
    if not isinstance(classes, int) or not 1 <= classes < 1 << 20:
        raise CheckpointError(f"{folder / CONFIG} describes no detector: num_classes is {classes!r}")
    config, file = model_config(folder, values), member(folder, WEIGHTS)

    def build(config: ModelConfig) -> DabDeformableDetr:
        return DabDeformableDetr(config, classes)

    refuse_misfit(file, config, lambda config: _official(build(config)))
    model = build(config)
    load_official(model, read_tensors(file))
    metadata = folder / METADATA
    return model.eval(), read_json(member(folder, METADATA)) if metadata.exists() else {}


def _official(model: DabDeformableDetr) -> dict[str, Tensor]:
    """The network's tensors by official key, without aliases and derived ones."""
    tensors = official_state_dict(model)
    return {key: tensors[key] for key in layout_of(model).entries}
