"""The processes of one training: a single one, or several that `torchrun` (or `accelerate launch`) started.

`accelerate` joins them: it picks the backend and gives each process its GPU. Gradients are summed in one go after the backward passes
and not by DDP's hooks, which expect one backward pass per step: here the parts of a batch come first and the text encoder once, last.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, nn

from rlip_assets.storage.errors import ParameterError
from rlip_model import LossCounts

PATIENCE = timedelta(hours=6)
"""Time that processes wait for each other: the first one evaluates while the others are idle."""


@dataclass(frozen=True)
class Processes:
    """This process's place among `count`."""

    index: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.index == 0

    def sum_counts(self, counts: LossCounts) -> LossCounts:
        """Return the counts of all processes together."""
        return counts if self.count == 1 else LossCounts(self.sum_values(counts.values))

    def sum_values(self, values: Tensor) -> Tensor:
        """Return the element-wise sum over all processes."""
        if self.count == 1:
            return values
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    def sum_gradients(self, model: nn.Module) -> None:
        """Replace every gradient by its sum over all processes; each part is already divided by the counts of the whole step.

        A parameter that no process used keeps no gradient, so that the optimiser leaves it alone as in a single process.
        """
        if self.count == 1:
            return
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        has = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
        parameters = [p for p, uses in zip(parameters, self.sum_values(has).tolist(), strict=True) if uses]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)


def join_processes(device: torch.device) -> Processes:
    """Join the processes that were started together (RANK and WORLD_SIZE are set), if any."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    from accelerate import PartialState

    state = PartialState(cpu=device.type == "cpu", timeout=PATIENCE)
    return Processes(state.process_index, state.num_processes)


def choose_device(name: str) -> torch.device:
    """Return the device of `training.device`; "auto" is this process's GPU where each process of this machine has one.

    Raises:
        ParameterError: "cuda" with fewer GPUs than processes, or an unknown name.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ParameterError(f"training.device is {name!r}; choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ParameterError("training.device is cuda, but no GPU is usable; set it to auto or cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    processes, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if processes > gpus and name == "cuda":
        raise ParameterError(
            f"training.device is cuda, and {processes} processes want a GPU each, of which {gpus} are usable; lower "
            "training.processes, or that of this training"
        )
    return torch.device("cpu") if processes > gpus else torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
