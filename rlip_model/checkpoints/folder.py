"""Checkpoint folders: weights, configuration, tokenizer, metadata and model card; written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

LONGEST_SIDE = 8192
"""Pixels; a stranger's image size must not decide how much memory a photo takes."""


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_sides(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(v) is int and 1 <= v <= LONGEST_SIDE for v in value)


KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("name", "trained_on", "subject"), ("a text", _is_text)),
    **dict.fromkeys(("objects", "relations"), ("a list of texts", _are_texts)),
    "subject_scores": ("true or false", lambda value: isinstance(value, bool)),
    "image_size": (f"two sides of 1 to {LONGEST_SIDE} pixels", _are_sides),
}
"""Metadata that the use of a checkpoint reads, and what it must be."""


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
    metadata = _read_metadata(folder) if (folder / METADATA).exists() else {}
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


def _read_metadata(folder: Path) -> dict[str, Any]:
    """The metadata; of what is used again (see `KINDS`), only values of the kind that is written."""
    values = read_json(member(folder, METADATA))
    for key, (what, fits) in KINDS.items():
        if key in values and not fits(values[key]):
            raise CheckpointError(f"{folder / METADATA}: {key} is not {what}: restore the file")
    return values


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
