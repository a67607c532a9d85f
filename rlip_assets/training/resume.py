"""The state from which a killed training resumes bit for bit: one safetensors file and the history of steps.

All random draws follow from seed and step (`batches.py`, `loop.py`), so no random state is saved. The header carries a digest of the
tensors, which is verified on loading.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.optim.swa_utils import AveragedModel

from rlip_assets.storage.errors import InputError
from rlip_assets.storage.files import canonical_json, write_bytes, write_text
from rlip_assets.training.optimiser import resume_average
from rlip_model.checkpoints.files import content_digest

STATE, HISTORY = "state.safetensors", "history.jsonl"
_MODEL, _OPTIMISER, _AVERAGE = "model/", "optimiser/", "average/"


@dataclass
class History:
    """One row per step: losses by term, learning rates, gradient norm. No times: equal trainings have equal histories.

    Attributes:
        unreadable_images, cut_pairs: images that could not be read, and pairs beyond the network's slots, over all steps and processes.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    unreadable_images: int = 0
    cut_pairs: int = 0

    def text(self) -> str:
        return "".join(canonical_json(row) + "\n" for row in self.rows)


@dataclass(frozen=True)
class Resume:
    """The folder of a training in progress; `digest` identifies everything that decides its course."""

    folder: Path
    digest: str

    def save(
        self,
        step: int,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        history: History,
        average: AveragedModel | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        """Write the state after `step` steps; the history first, so that the state never lacks its rows.

        Raises:
            InputError: the disk is full; the previous state stays.
        """
        tensors = {f"{_MODEL}{name}": value for name, value in model.state_dict().items()}
        for name, values in _optimiser_state(model, optimiser).items():
            tensors.update({f"{_OPTIMISER}{name}/{key}": value for key, value in values.items()})
        if average:
            tensors |= {f"{_AVERAGE}{name}": value for name, value in average.module.named_parameters()}
        tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        header = {
            "step": str(step),
            "digest": self.digest,
            "content": content_digest(tensors),
            "scaler": canonical_json(scaler.state_dict() if scaler else {}),
            "counts": canonical_json([history.unreadable_images, history.cut_pairs]),
        }
        try:
            write_text(self.folder / HISTORY, history.text())
            write_bytes(self.folder / STATE, save(tensors, header))
        except OSError as error:
            raise InputError(
                f"the state after step {step} cannot be written to {self.folder} ({error.strerror}); make room and start again: "
                "the training resumes from its last state"
            ) from error

    def load(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        average: AveragedModel | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> tuple[int, History]:
        """Restore model, optimiser and average; return the finished steps and their history, (0, empty) where nothing was saved.

        Raises:
            InputError: the state is damaged or belongs to another training.
        """
        file = self.folder / STATE
        if not file.is_file():
            return 0, History()
        try:
            with safe_open(file, framework="pt") as content:
                header = content.metadata() or {}
                if header.get("digest") != self.digest:
                    raise InputError(
                        f"{file} belongs to a training with other settings; remove {self.folder} to start afresh"
                    )
                tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise self._damaged(file, error) from None
        if "content" in header and header["content"] != content_digest(tensors):
            raise self._damaged(file, "its tensors are not those that were written")
        step = int(header["step"])
        history = History(self._rows(step), *json.loads(header.get("counts", "[]")))
        if scaler and (saved := json.loads(header.get("scaler", "{}"))):
            scaler.load_state_dict(saved)
        model.load_state_dict(_below(_MODEL, tensors))
        if average:
            average.module.load_state_dict(_below(_MODEL, tensors) | _below(_AVERAGE, tensors))
            resume_average(average, step)
        _restore_optimiser(model, optimiser, tensors)
        return step, history

    def _rows(self, steps: int) -> list[dict[str, float]]:
        """The rows of the finished steps; a kill may have left later ones."""
        file = self.folder / HISTORY
        try:
            rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()[:steps]]
            numbers = [row["step"] for row in rows]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise self._damaged(file, error) from None
        if numbers != list(range(1, steps + 1)):
            raise self._damaged(file, f"it lacks rows of the first {steps} steps")
        return rows

    def _damaged(self, file: Path, reason: object) -> InputError:
        return InputError(f"{file} is damaged ({reason}); remove {self.folder} to start afresh")


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _optimiser_state(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Mapping[str, torch.Tensor]]:
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {names[parameter]: values for parameter, values in optimiser.state.items()}


def _restore_optimiser(model: nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    parameters = dict(model.named_parameters())
    states: dict[str, dict[str, Any]] = {}
    for key, value in tensors.items():
        if key.startswith(_OPTIMISER):
            name, entry = key[len(_OPTIMISER) :].rsplit("/", 1)
            target = parameters[name]
            states.setdefault(name, {})[entry] = value if entry == "step" else value.to(target.device, target.dtype)
    optimiser.state.clear()
    for name, state in states.items():
        optimiser.state[parameters[name]] = state
