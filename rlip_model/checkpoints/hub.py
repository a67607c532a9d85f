"""The ways of Hugging Face: a local folder and a name on the Hub alike; `from_pretrained`, `save_pretrained`, `push_to_hub`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import HfApi, ModelCard, PyTorchModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from torch import Tensor, nn

from rlip_model.checkpoints.files import (
    CONFIG,
    MEMBERS,
    WEIGHTS,
    first_line,
    member,
    read_json,
    read_tensors,
    save_weights,
    tensor_shapes,
    write_json,
)
from rlip_model.checkpoints.model_card import model_card
from rlip_model.config import ModelConfig
from rlip_model.errors import CheckpointError

FORMAT = 1
MODEL_TYPE = "rlip"

Network = TypeVar("Network", bound="PretrainedNetwork")


def local_folder(name_or_folder: Path | str, files: Sequence[str] = MEMBERS, **hub: Any) -> Path:
    """Return a folder as it is, or download `files` of a model on the Hub and return their folder.

    Args:
        name_or_folder: a path, or a name such as "user/model".
        hub: options of `huggingface_hub.snapshot_download`: revision, cache_dir, token, local_files_only, force_download.
    Raises:
        CheckpointError: neither is there.
    """
    if isinstance(name_or_folder, Path) or Path(name_or_folder).exists():
        return Path(name_or_folder)
    try:
        return Path(snapshot_download(name_or_folder, allow_patterns=list(files), **hub))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise CheckpointError(
            f"{name_or_folder} is no folder here and no model that can be downloaded "
            f"({first_line(error)}): correct the path or the name"
        ) from None


def push_folder(folder: Path, repo_id: str, **options: Any) -> str:
    """Upload a checkpoint folder to a repository on the Hub, made where it does not exist; return the address of the commit.

    Args:
        options: `private`, `token`, and options of `HfApi.upload_folder` such as `commit_message` and `revision`.
    """
    api = HfApi(token=options.pop("token", None))
    repo_id = api.create_repo(repo_id, private=options.pop("private", None), exist_ok=True).repo_id
    return str(api.upload_folder(repo_id=repo_id, folder_path=folder, allow_patterns=list(MEMBERS), **options))


def read_config(folder: Path) -> dict[str, Any]:
    """Read the configuration file of a model folder. Raises CheckpointError for another format."""
    if not (folder / CONFIG).exists():
        raise CheckpointError(f"{folder} is no model folder: it has no {CONFIG}")
    file = member(folder, CONFIG)
    values = read_json(file)
    if values.get("format") != FORMAT:
        raise CheckpointError(f"{file} has format {values.get('format')!r}, this version reads {FORMAT}")
    return values


def model_config(folder: Path, values: dict[str, Any]) -> ModelConfig:
    """Return the network's configuration in the values of a folder's configuration file."""
    model = values.get("model")
    try:
        if not isinstance(model, dict):
            raise CheckpointError("it has no `model` with the network's fields")
        return ModelConfig.from_dict(model)
    except CheckpointError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}; restore the file") from None


class PretrainedNetwork(nn.Module, PyTorchModelHubMixin):
    """A network that is made from a `ModelConfig` alone, and so can be loaded, saved and shared."""

    config: ModelConfig

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def from_pretrained(cls: type[Network], pretrained_model_name_or_path: str | Path, **hub: Any) -> Network:
        """Load a network, in evaluation mode, from a folder or from the Hub.

        Args:
            pretrained_model_name_or_path: a folder, or a name such as "user/model".
            hub: see `local_folder`.
        Raises:
            CheckpointError: not there, damaged, or of another configuration; nothing of the configured size is built before the
                weight file is known to have it.
        """
        folder = local_folder(pretrained_model_name_or_path, (WEIGHTS, CONFIG), **hub)
        values = read_config(folder)
        if "num_classes" in values:
            raise CheckpointError(
                f"{folder} holds a box detector, which knows no relations: give a folder with a relation network"
            )
        config, file = model_config(folder, values), member(folder, WEIGHTS)
        refuse_misfit(file, config, lambda config: cls(config).state_dict())
        model = cls(config)
        model.load_state_dict(read_tensors(file))
        return model.eval()

    def _save_pretrained(self, save_directory: Path) -> None:
        save_weights(save_directory / WEIGHTS, self.state_dict())
        write_json(
            save_directory / CONFIG, {"format": FORMAT, "model_type": MODEL_TYPE, "model": self.config.to_dict()}
        )

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Return the model card; `metadata` may be given with the run's own figures."""
        return ModelCard(model_card(self.config, kwargs.get("metadata")))


def refuse_misfit(file: Path, config: ModelConfig, tensors: Callable[[ModelConfig], Mapping[str, Tensor]]) -> None:
    """Compare the tensors of a weight file with those of a network, `tensors(config)`, without memory for either.

    Raises:
        CheckpointError: tensors are missing, unexpected or of another shape; the sentence names them.
    """
    given = tensor_shapes(file)
    layers = sum(config.backbone.depths) + config.text.layers + config.encoder_layers + config.decoder_layers
    if layers > len(given):
        raise CheckpointError(f"{file} does not fit its {CONFIG}: {layers} layers, but only {len(given)} tensors")
    try:
        with torch.device("meta"):
            own = {name: tuple(value.shape) for name, value in tensors(config).items()}
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{file.with_name(CONFIG)} describes no network that can be built ({first_line(error)})"
        ) from None
    parts = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in (
            ("missing", sorted(set(own) - set(given))),
            ("unexpected", sorted(set(given) - set(own))),
            ("of another shape", [name for name in own if name in given and own[name] != given[name]]),
        )
        if names
    ]
    if parts:
        raise CheckpointError(f"{file} does not fit its {CONFIG}: tensors " + "; ".join(parts))
