"""The processes of one training: alone, or started by `torchrun` and joined by sums."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlip_assets.errors import ParameterError
from rlip_assets.training.normalise import Counts


@dataclass(frozen=True)
class Processes:
    """This process's place among `count`."""

    index: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.index == 0

    def sum_counts(self, counts: Counts) -> Counts:
        """Counts of all processes together."""
        return counts if self.count == 1 else Counts(self.sum_values(counts.values))

    def sum_values(self, values: Tensor) -> Tensor:
        """Element-wise sum over all processes."""
        if self.count == 1:
            return values
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    def sum_gradients(self, model: nn.Module) -> None:
        """Replace every gradient by its sum over all processes; each part was divided by the counts of the whole step already."""
        if self.count == 1:
            return
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)


def join_processes(device: torch.device) -> Processes:
    """Join the processes that `torchrun` started (it sets RANK and WORLD_SIZE); alone without it."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes()
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(torch.distributed.get_rank(), count)


def choose_device(name: str) -> torch.device:
    """ "auto" is this process's GPU where there is one.

    Raises:
        ParameterError: "cuda" without a GPU, or another name.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ParameterError(f"training.device is {name!r}; choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ParameterError("training.device is cuda, but no GPU is usable; set it to auto or cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
