"""The initial network of a training: fresh weights on pretrained parts, or a checkpoint; and what the start filled of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers.utils.logging import disable_progress_bar

from rlip_assets.lineage.recipes import Recipe
from rlip_assets.storage.errors import ParameterError
from rlip_model import (
    LabelTokenizer,
    ModelConfig,
    Rlip,
    build_model,
    initialise_from_detector,
    initialise_text_encoder,
    load_checkpoint,
    with_fewer_queries,
)
from rlip_model.alif import Encoder

START_FILE = "start.json"
"""File of a checkpoint that tells what its training started from."""
_TEXT_ENCODER = "transformer.text_encoder."


@dataclass(frozen=True)
class Start:
    """The start of a training.

    Attributes:
        sources: role of each start ("detector", "text_encoder", "checkpoint") -> its folder.
        filled: number of tensors that came from there.
        fresh: tensors with newly drawn values, by their official names.
        unused: tensors of a start that have no place in the network.
        cut: queries of the checkpoint and of the network, where the network has fewer.
    """

    sources: dict[str, str]
    filled: int
    fresh: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    cut: tuple[int, int] | None = None

    def relative_to(self, root: Path) -> Start:
        """Return this start with folders below `root` named from there, so that copies of a profile write the same file."""
        named = {
            role: os.path.relpath(folder, root) if Path(folder).is_relative_to(root) else folder
            for role, folder in self.sources.items()
        }
        return replace(self, sources=named)

    def sentence(self) -> str:
        """Return one line for a log."""
        said = f"starts from {', '.join(f'{role} {folder}' for role, folder in self.sources.items())}: {self.filled} tensors filled"
        cut = f"; {self.cut[0]} queries cut to {self.cut[1]}" if self.cut else ""
        return f"{said}{cut}; fresh: {_parts(self.fresh)}; unused: {_parts(self.unused)}"

    def as_json(self) -> dict[str, Any]:
        """Return the content of `start.json`."""
        return asdict(self)


def _parts(names: Sequence[str]) -> str:
    """Return how many of the tensors lie in which part of the network."""
    counts = Counter(".".join(name.split(".")[:2]) for name in names)
    return ", ".join(f"{part} {count}" for part, count in counts.items()) or "none"


def model_config(recipe: Recipe) -> ModelConfig:
    """Return the configuration of a recipe's network.

    Raises:
        ParameterError: an unknown preset or field.
    """
    try:
        config = ModelConfig.preset(recipe.model)
        values = config.to_dict()
        for path, value in recipe.model_changes.items():
            *parents, name = path.split(".")
            part = values
            for parent in parents:
                part = part[parent]
            part[name] = value
        return ModelConfig.from_dict(values)
    except (ValueError, KeyError, TypeError) as error:
        raise ParameterError(f"the recipe's network: {error}; correct model or model_changes") from None


def network_from_parts(
    recipe: Recipe, detector: Path, text_encoder: Path, seed: int
) -> tuple[Rlip, LabelTokenizer, Start]:
    """Build a network with the vision side of a detector, a text encoder, and fresh weights in between, drawn by `seed`."""
    disable_progress_bar()  # of a text encoder that loads in a moment
    torch.manual_seed(seed)
    model = build_model(model_config(recipe))
    if recipe.fusion_start == "identity" and isinstance(model.encoder, Encoder):
        model.encoder.start_as_identity()
    report = initialise_from_detector(model, detector)
    texts = initialise_text_encoder(model, text_encoder)
    start = Start(
        {"detector": str(detector), "text_encoder": str(text_encoder)},
        len(report.filled) + len(texts.filled),
        (
            *(name for name in report.fresh if not name.startswith(_TEXT_ENCODER)),
            *(f"{_TEXT_ENCODER}{name}" for name in texts.fresh),
        ),
        (*report.unused, *texts.unused),
    )
    return model, LabelTokenizer.from_pretrained(text_encoder), start


def network_from_checkpoint(recipe: Recipe, folder: Path) -> tuple[Rlip, LabelTokenizer, Start]:
    """Load the network of a checkpoint, which must be the recipe's.

    Raises:
        ParameterError: the checkpoint has another architecture; the message names the first field that differs.
    """
    checkpoint = load_checkpoint(folder)
    wanted = model_config(recipe)
    model = checkpoint.model
    model.config = replace(model.config, label_texts=wanted.label_texts)  # no weight depends on it
    own, given = wanted.without_dropout().to_dict(), model.config.without_dropout().to_dict()
    different = [name for name in own if own[name] != given[name]]
    if different == ["queries"]:
        try:
            mixed = recipe.published.first_queries and not wanted.is_dense
            keep: Literal["rows", "pairs"] = "rows" if mixed else "pairs"
            model = with_fewer_queries(model, wanted.queries, keep)
            return model, checkpoint.tokenizer, _whole(folder, model, (checkpoint.config.queries, wanted.queries))
        except ValueError as error:
            raise ParameterError(f"{folder}: {error}; start from another checkpoint or lower queries") from None
    if different:
        name = different[0]
        raise ParameterError(
            f"{folder} holds a network with {name} = {given[name]}, the recipe's network {recipe.model} has {own[name]}; "
            "start from a checkpoint of this network or choose another recipe"
        )
    return model, checkpoint.tokenizer, _whole(folder, model)


def _whole(folder: Path, model: Rlip, cut: tuple[int, int] | None = None) -> Start:
    return Start({"checkpoint": str(folder)}, len(model.state_dict()), cut=cut)
