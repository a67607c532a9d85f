"""Checkpoint folders: weights, configuration, tokenizer, metadata and model card; written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from rlip_model.checkpoints.files import METADATA, first_line, member, read_json, whole_folder, write_json
from rlip_model.checkpoints.hub import local_folder, push_folder
from rlip_model.checkpoints.model_card import model_card
from rlip_model.config import ModelConfig
from rlip_model.errors import CheckpointError
from rlip_model.model import Rlip
from rlip_model.text import LabelTokenizer


@dataclass(frozen=True)
class Checkpoint:
    """A network that is ready for use (evaluation mode), with its tokenizer, configuration and metadata."""

    model: Rlip
    tokenizer: LabelTokenizer
    config: ModelConfig
    metadata: dict[str, Any]

    def save_pretrained(self, folder: Path | str) -> None:
        """Write the checkpoint as a folder; an existing one is replaced."""
        save_checkpoint(folder, self.model, self.tokenizer, self.metadata)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the checkpoint with its model card; options as in `push_folder`. Return the address of the commit."""
        with TemporaryDirectory() as temporary:
            self.save_pretrained(Path(temporary) / "checkpoint")
            return push_folder(Path(temporary) / "checkpoint", repo_id, **options)


def save_checkpoint(folder: Path | str, model: Rlip, tokenizer: LabelTokenizer, metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint folder; an existing one is replaced.

    Args:
        metadata: plain JSON values: where the weights come from, label vocabulary, figures.
    Raises:
        CheckpointError: the tokenizer has more tokens than the text encoder, or pads with another one.
    """
    _check_tokenizer(tokenizer, model.config)
    with whole_folder(Path(folder)) as target:
        model._save_pretrained(target)
        write_json(target / METADATA, dict(metadata))
        tokenizer.save_pretrained(target)
        (target / "README.md").write_text(model_card(model.config, metadata))


def load_checkpoint(name_or_folder: Path | str, device: torch.device | str = "cpu", **hub: Any) -> Checkpoint:
    """Open a checkpoint.

    Args:
        name_or_folder: a folder, or the name of a model on the Hub, such as "user/model".
        hub: see `local_folder`.
    Raises:
        CheckpointError: a file is missing, damaged, from a newer version, or does not fit; the sentence names the file.
    """
    folder = local_folder(name_or_folder, **hub)
    model = Rlip.from_pretrained(folder)
    config = model.config
    metadata = read_json(member(folder, METADATA)) if (folder / METADATA).exists() else {}
    if not (folder / "tokenizer.json").exists():
        raise CheckpointError(f"{folder / 'tokenizer.json'} is missing: the model folder is incomplete")
    tokenizer = LabelTokenizer.from_pretrained(folder)
    try:
        _check_tokenizer(tokenizer, config)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    try:
        return Checkpoint(model.to(device), tokenizer.shortened(config.text.longest), config, metadata)
    except (AssertionError, RuntimeError) as error:
        raise CheckpointError(f"the device {device} cannot be used ({first_line(error)}): name another one") from None


def _check_tokenizer(tokenizer: LabelTokenizer, config: ModelConfig) -> None:
    remedy = "take the tokenizer that the network was trained with"
    if tokenizer.vocabulary > config.text.vocabulary:
        known = config.text.vocabulary
        raise CheckpointError(
            f"the tokenizer has {tokenizer.vocabulary} tokens, but the text encoder only {known}: {remedy}"
        )
    if tokenizer.pad_id != config.text.pad_id:
        raise CheckpointError(
            f"the tokenizer pads with {tokenizer.pad_id}, but the text encoder with {config.text.pad_id}: {remedy}"
        )
