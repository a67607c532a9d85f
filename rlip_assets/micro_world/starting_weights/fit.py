"""The training loop of all three networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from rlip_assets.micro_world.starting_weights.record import TrainingRecord

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to `lr` over `warmup` steps, then half a cosine down to the share `lowest` of it."""

    lr: float
    steps: int
    warmup: int
    weight_decay: float
    lowest: float = 0.0

    def share(self, step: int) -> float:
        """Return the share of `lr` at a step, from 1."""
        done = max(0, step - self.warmup) / max(1, self.steps - self.warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * done))
        return min(1.0, step / self.warmup) * (self.lowest + (1 - self.lowest) * cosine)


def fit(
    parameters: Iterable[nn.Parameter],
    schedule: Schedule,
    batches: Iterable[Batch],
    losses: Callable[[Batch, int], tuple[Tensor, Mapping[str, Tensor]]],
    record: TrainingRecord,
) -> None:
    """Train by AdamW, gradients clipped to norm 1.

    Args:
        losses: batch and step (from 1) to the loss and to the terms that are recorded, all scalars.
    """
    trained = list(parameters)
    optimiser = torch.optim.AdamW(trained, lr=schedule.lr, weight_decay=schedule.weight_decay)
    rate = LambdaLR(optimiser, lambda done: schedule.share(done + 1))
    for step, batch in enumerate(batches, start=1):
        loss, terms = losses(batch, step)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        rate.step()
        record.step({name: float(value.detach()) for name, value in terms.items()})


def shuffled(rows: int, batch: int, steps: int, generator: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the row numbers of each step's batch; every row once before any row again."""
    order = np.zeros(0, np.int64)
    for _ in range(steps):
        while len(order) < batch:
            order = np.concatenate([order, generator.permutation(rows)])
        yield order[:batch]
        order = order[batch:]
