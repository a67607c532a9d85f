"""The initial network of a training: fresh weights on pretrained parts, or a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

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


def network_from_parts(recipe: Recipe, detector: Path, text_encoder: Path, seed: int) -> tuple[Rlip, LabelTokenizer]:
    """Build a network with the vision side of a detector, a text encoder, and fresh weights in between, drawn by `seed`."""
    disable_progress_bar()  # of a text encoder that loads in a moment
    torch.manual_seed(seed)
    model = build_model(model_config(recipe))
    initialise_from_detector(model, detector)
    initialise_text_encoder(model, text_encoder)
    return model, LabelTokenizer.from_pretrained(text_encoder)


def network_from_checkpoint(recipe: Recipe, folder: Path) -> tuple[Rlip, LabelTokenizer]:
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
            keep: Literal["rows", "pairs"] = "rows" if recipe.published.first_queries else "pairs"
            return with_fewer_queries(model, wanted.queries, keep), checkpoint.tokenizer
        except ValueError as error:
            raise ParameterError(f"{folder}: {error}; start from another checkpoint or lower queries") from None
    if different:
        name = different[0]
        raise ParameterError(
            f"{folder} holds a network with {name} = {given[name]}, the recipe's network {recipe.model} has {own[name]}; "
            "start from a checkpoint of this network or choose another recipe"
        )
    return model, checkpoint.tokenizer
