"""The training loop of all three networks: by steps or by time, saved now and then, taken up again where it ended."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from rlip_assets.micro_world.starting_weights.record import TrainingRecord
from rlip_assets.storage.files import atomic_file
from rlip_assets.training.processes import Processes, choose_device, join_processes

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Machine:
    """Device and processes of a training, its time, and where its state is kept.

    Attributes:
        workers: processes that render; 0 renders in the training process.
        seconds: the training ends after these at the latest, its schedule compressed to fit; None runs all steps.
        state: file of the unfinished training, for resuming; None keeps none.
        save_every: seconds between two states.
        on_save: is called after each state, for instance to copy the weights so far.
        processes: those that share each step, each with a batch of its own; the first one writes.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int = 0
    seconds: float | None = None
    state: Path | None = None
    save_every: float = 60.0
    on_save: Callable[[], None] | None = None
    processes: Processes = field(default_factory=Processes)

    @classmethod
    def here(cls, state: Path | None = None, seconds: float | None = None) -> Machine:
        """Return this process's GPU where there is one, else one thread of the CPU; rendering takes the other cores."""
        torch.set_num_threads(1)
        device = choose_device("auto")
        processes = join_processes(device)
        workers = max(1, (os.cpu_count() or 1) // processes.count - 1)
        return cls(device, workers, seconds, state, processes=processes)

    @property
    def name(self) -> str:
        """The device as records name it."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    @property
    def shared(self) -> dict[str, int]:
        """The number of processes as a setting that decides the outcome; empty for one."""
        return {"processes": self.processes.count} if self.processes.count > 1 else {}

    def move(self, tensor: Tensor) -> Tensor:
        """Return the tensor on the device; the copy does not hold up the CPU."""
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def autocast(self) -> AbstractContextManager[Any]:
        """bfloat16 where the device is fast at it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")


@dataclass(frozen=True)
class Schedule:
    """Learning rates and parts of a training.

    The rate rises linearly over the first `warmup` steps of every part, below half a cosine from `lr` down to the share `lowest` of it.
    `parts`: shares of the training, ascending, at which its second and later parts begin.
    """

    lr: float
    steps: int
    warmup: int
    weight_decay: float
    lowest: float = 0.0
    parts: tuple[float, ...] = ()

    def part(self, progress: float) -> int:
        """Return the number of the part, from 0, at a share of the training."""
        return sum(progress >= start for start in self.parts)

    def share(self, progress: float, step: int) -> float:
        """Return the share of `lr` at a share of the training and a step of its part, from 1."""
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return min(1.0, step / self.warmup) * (self.lowest + (1 - self.lowest) * cosine)


Losses = Callable[[Batch, float], tuple[Tensor, Mapping[str, Tensor]]]


def fit(
    modules: Iterable[nn.Module],
    schedule: Schedule,
    batch: Callable[[np.random.Generator], Batch],
    losses: Losses[Batch],
    record: TrainingRecord,
    machine: Machine,
    seed: int = 0,
) -> None:
    """Train by AdamW, gradients clipped to norm 1, until all steps are done or the time is up.

    Without a limit on time the outcome depends on the arguments alone, interrupted and resumed or not (on one machine).

    Args:
        batch: draws a batch with the generator of the training.
        losses: batch and share of the training done to the loss and to the terms that are recorded, all scalars.
    """
    network = nn.ModuleList(modules)
    trained = list(network.parameters())
    optimiser = torch.optim.AdamW(trained, lr=schedule.lr, weight_decay=schedule.weight_decay)
    state = _State(network, optimiser, record, machine)
    processes = machine.processes
    record.quiet = not processes.is_first
    record.begin()
    state.load()
    while (progress := state.progress(schedule.steps)) < 1:
        if schedule.part(progress) != state.part:
            state.part, state.part_began = schedule.part(progress), record.finished
        for group in optimiser.param_groups:
            group["lr"] = schedule.lr * schedule.share(progress, record.finished - state.part_began + 1)
        drawn = np.random.default_rng([seed, record.finished, processes.index])
        loss, terms = losses(batch(drawn), progress)
        optimiser.zero_grad()
        (loss / processes.count).backward()
        processes.sum_gradients(network)
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        record.step(terms, progress)
        state.save_when_due()
    record.finish()


class _State:
    """State of an unfinished training: weights, moments, torch's random stream, place in the schedule, record."""

    def __init__(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        record: TrainingRecord,
        machine: Machine,
    ) -> None:
        self.network, self.optimiser = network, optimiser
        self.record, self.machine = record, machine
        self.part = self.part_began = 0
        self.saved = time.monotonic()

    def progress(self, steps: int) -> float:
        """Return the share of the training done, by steps or by time, whichever is further; the first process's clock counts for all."""
        seconds, processes = self.machine.seconds, self.machine.processes
        done = self.record.finished / steps
        if seconds is None:
            return done
        done = max(done, self.record.seconds / seconds) if processes.is_first else 0.0
        return float(processes.sum_values(torch.tensor(done, dtype=torch.float64, device=self.machine.device)))

    def save_when_due(self) -> None:
        if not self.machine.processes.is_first or time.monotonic() - self.saved < self.machine.save_every:
            return
        if self.machine.state is not None:
            with atomic_file(self.machine.state) as path:
                torch.save(self._values(), path)
        if self.machine.on_save is not None:
            self.machine.on_save()
        self.saved = time.monotonic()

    def load(self) -> None:
        """Take up the saved training, unless it is one with other settings."""
        path = self.machine.state
        if path is None or not path.is_file():
            return
        values = torch.load(path, map_location=self.machine.device, weights_only=True)
        if not self.record.resume(values["record"]):
            return
        self.network.load_state_dict(values["network"])
        self.optimiser.load_state_dict(values["optimiser"])
        torch.set_rng_state(values["torch"].cpu())
        self.part, self.part_began = values["part"], values["part_began"]

    def _values(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "torch": torch.get_rng_state(),
            "part": self.part,
            "part_began": self.part_began,
            "record": self.record.state(),
        }
