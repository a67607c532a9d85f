"""Folders of the box detector, in the key layout of the published one, so that a converted published one fits too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from rlip_model.checkpoints.folder import CONFIG, FORMAT, METADATA, WEIGHTS, read_config, whole_folder, write_json
from rlip_model.checkpoints.official_layout import layout_of, load_official, official_state_dict
from rlip_model.config import ModelConfig
from rlip_model.dab_deformable_detr import DabDeformableDetr


def save_detector(
    folder: Path | str, model: DabDeformableDetr, metadata: Mapping[str, Any], *, half: bool = False
) -> None:
    """Write a detector folder in the published key layout; `half` stores 16-bit floats."""
    tensors = official_state_dict(model)
    keys = layout_of(model).entries
    state = {key: tensors[key].detach().cpu().clone() for key in keys}
    if half:
        state = {key: value.half() for key, value in state.items()}
    with whole_folder(Path(folder)) as target:
        save_file(state, str(target / WEIGHTS))
        config = {"format": FORMAT, "model": model.config.to_dict(), "num_classes": model.num_classes}
        write_json(target / CONFIG, config)
        write_json(target / METADATA, dict(metadata))


def load_detector(folder: Path | str) -> tuple[DabDeformableDetr, dict[str, Any]]:
    """Open a detector folder: the network in evaluation mode, and its metadata. Raises ValueError when it does not fit."""
    folder = Path(folder)
    values = read_config(folder)
    if "num_classes" not in values:
        raise ValueError(f"{folder / CONFIG} describes no detector: it has no num_classes")
    model = DabDeformableDetr(ModelConfig.from_dict(values["model"]), int(values["num_classes"]))
    report = load_official(model, load_file(str(folder / WEIGHTS)))
    if report.missing or report.unexpected:
        raise ValueError(
            f"{folder / WEIGHTS} does not fit: missing {report.missing[:3]}, unexpected {report.unexpected[:3]}"
        )
    metadata = folder / METADATA
    return model.eval(), json.loads(metadata.read_text()) if metadata.is_file() else {}
