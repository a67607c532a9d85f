"""The record of a training: what was run, how long it took, how the losses fell and what came out on held-out data."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlip_assets.storage.files import write_json

RECORD = "record.json"


@dataclass
class TrainingRecord:
    """Collects a training's figures and writes them as `record.json`; also prints progress.

    Args:
        name: which weights.
        settings: everything that decides the outcome, as plain JSON values (seed included).
        steps: optimiser steps planned.
        log_every: steps between two kept losses.
    """

    name: str
    settings: Mapping[str, Any]
    steps: int
    log_every: int = 50
    losses: list[dict[str, float]] = field(default_factory=list)
    _sums: dict[str, float] = field(default_factory=dict, repr=False)
    _count: int = field(default=0, repr=False)
    _finished: int = field(default=0, repr=False)
    _started: float = field(default_factory=time.perf_counter, repr=False)
    _processor_started: float = field(default_factory=time.process_time, repr=False)

    @property
    def seconds(self) -> float:
        """Wall seconds since the record was opened."""
        return time.perf_counter() - self._started

    def step(self, losses: Mapping[str, float]) -> None:
        """Count a finished step; every `log_every` steps the mean losses are kept and printed."""
        self._count += 1
        self._finished += 1
        number = self._finished
        for key, value in losses.items():
            self._sums[key] = self._sums.get(key, 0.0) + value
        if number % self.log_every and number != self.steps:
            return
        means = {key: round(value / self._count, 4) for key, value in self._sums.items()}
        self.losses.append({"step": number, **means})
        self._sums, self._count = {}, 0
        left = self.seconds / number * (self.steps - number)
        terms = "  ".join(f"{key} {value:.3f}" for key, value in means.items())
        print(f"{self.name}: step {number}/{self.steps}  {terms}  {self.seconds:.0f} s, {left:.0f} s left", flush=True)

    def write(self, folder: Path, held_out: Mapping[str, Any]) -> None:
        """Write `record.json` into the folder of the weights."""
        import torch

        write_json(
            folder / RECORD,
            {
                "name": self.name,
                "settings": dict(self.settings),
                "steps": self.steps,
                "seconds": round(self.seconds, 1),
                "processor_seconds": round(time.process_time() - self._processor_started, 1),
                "losses": self.losses,
                "held_out": dict(held_out),
                "software": {"torch": torch.__version__.split("+")[0], "python": platform.python_version()},
                "threads": torch.get_num_threads(),
            },
        )
