"""One folder a checkpoint: weights (safetensors), configuration, tokenizer and metadata; written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rlip_model.config import ModelConfig
from rlip_model.model import Rlip, build_model
from rlip_model.text import LabelTokenizer

FORMAT = 1
CONTENT = "content"
"""Key of the weight file's header that holds the digest of its tensors; files from elsewhere have none."""
WEIGHTS, CONFIG, METADATA = "model.safetensors", "config.json", "metadata.json"


@dataclass(frozen=True)
class Checkpoint:
    """A network that is ready for use (evaluation mode), with what belongs to it."""

    model: Rlip
    tokenizer: LabelTokenizer
    config: ModelConfig
    metadata: dict[str, Any]


def save_checkpoint(folder: Path | str, model: Rlip, tokenizer: LabelTokenizer, metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint folder; an existing one is replaced.

    Args:
        metadata: plain JSON values: where the weights come from, label vocabulary, figures.
    Raises:
        ValueError: the tokenizer has more tokens than the text encoder.
    """
    if tokenizer.vocabulary > model.config.text.vocabulary:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocabulary} tokens, but the text encoder only "
            f"{model.config.text.vocabulary}: save the tokenizer that the network was trained with"
        )
    with whole_folder(Path(folder)) as target:
        save_weights(target / WEIGHTS, model)
        write_json(target / CONFIG, {"format": FORMAT, "model": model.config.to_dict()})
        write_json(target / METADATA, dict(metadata))
        tokenizer.save(target)


def load_checkpoint(folder: Path | str, device: torch.device | str = "cpu") -> Checkpoint:
    """Open a checkpoint folder.

    Raises:
        ValueError: a file is missing, from a newer version, or does not fit; the sentence names the file.
    """
    folder = Path(folder)
    values = read_config(folder)
    if "num_classes" in values:
        raise ValueError(
            f"{folder} holds a box detector, which knows no relations: give a folder with a relation network"
        )
    config = ModelConfig.from_dict(values["model"])
    model = build_model(config)
    load_weights(folder / WEIGHTS, model)
    metadata_file = folder / METADATA
    metadata = json.loads(metadata_file.read_text()) if metadata_file.is_file() else {}
    return Checkpoint(model.to(device).eval(), LabelTokenizer.from_pretrained(folder), config, metadata)


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration file of a model folder, checked for its format."""
    file = folder / CONFIG
    if not file.is_file():
        raise ValueError(f"{folder} is no model folder: it has no {CONFIG}")
    values: dict[str, Any] = json.loads(file.read_text())
    if values.get("format") != FORMAT:
        raise ValueError(f"{file} has format {values.get('format')!r}, this version reads {FORMAT}")
    return values


def save_weights(file: Path, model: nn.Module) -> None:
    """Write all tensors, with their digest in the header.

    Raises:
        OSError: the disk is full or broken.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    try:
        save_file(tensors, str(file), metadata={CONTENT: content_digest(tensors)})
    except SafetensorError as error:  # the writer's word for a full disk
        code = errno.ENOSPC if f"code: {errno.ENOSPC}," in str(error) else errno.EIO
        raise OSError(code, f"cannot be written ({error})", str(file)) from None


def content_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over names and bytes of tensors on the CPU, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_weights(file: Path, model: nn.Module) -> None:
    """Strict loading that names what does not fit; half-precision files are widened.

    Raises:
        ValueError: missing, damaged (its tensors are not those that were written), or made for another configuration.
    """
    if not file.is_file():
        raise ValueError(f"{file} is missing: the model folder is incomplete")
    try:
        with safe_open(str(file), framework="pt") as content:
            written = (content.metadata() or {}).get(CONTENT)
            given = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged ({error}): fetch or make the checkpoint again") from None
    if written and written != content_digest(given):
        raise ValueError(
            f"{file} is damaged (its tensors are not those that were written): fetch or make the checkpoint again"
        )
    own = model.state_dict()
    missing, unexpected = sorted(set(own) - set(given)), sorted(set(given) - set(own))
    shapes = [name for name in own if name in given and own[name].shape != given[name].shape]
    if missing or unexpected or shapes:
        parts = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
            if names
        ]
        raise ValueError(f"{file} does not fit its {CONFIG}: tensors " + "; ".join(parts))
    model.load_state_dict(given)


def write_json(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary sibling to fill, synced to disk and renamed to `folder` at the end; removed on an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield temporary
        for file in [*temporary.iterdir(), temporary]:
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        temporary.chmod(0o755)
        aside = temporary.with_name(f"{temporary.name}.old")
        if folder.exists():
            folder.rename(aside)
        temporary.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
