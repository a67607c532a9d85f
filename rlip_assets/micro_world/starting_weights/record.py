"""The record of a training: what was run, how long it took, how the losses fell and what came out on held-out data."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlip_assets.storage.files import read_object, write_json

if TYPE_CHECKING:
    from torch import Tensor

RECORD = "record.json"


def earlier(folder: Path, further: bool) -> Any:
    """Return the record of the weights in a folder that are trained on, without its losses; None for fresh weights."""
    if not further:
        return None
    record = read_object(folder / RECORD, "train these weights from scratch (without --further)")
    return {key: value for key, value in record.items() if key != "losses"}


@dataclass
class TrainingRecord:
    """Collects a training's figures and writes them as `record.json`; also prints progress, unless `quiet`.

    Args:
        name: which weights.
        settings: everything that decides the outcome, as plain JSON values (seed included).
        device: what it ran on.
        earlier: the record of the training whose weights this one trains on.
        log_every: steps between two kept losses.
    """

    name: str
    settings: Mapping[str, Any]
    device: str = "cpu"
    earlier: Mapping[str, Any] | None = None
    log_every: int = 50
    quiet: bool = False
    losses: list[dict[str, float]] = field(default_factory=list)
    finished: int = 0
    """Steps done."""
    _sums: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _count: int = field(default=0, repr=False)
    _seconds_before: float = field(default=0.0, repr=False)
    _started: float = field(default_factory=time.perf_counter, repr=False)

    @property
    def seconds(self) -> float:
        """Wall seconds of the training, those before it was resumed included."""
        return self._seconds_before + time.perf_counter() - self._started

    def begin(self) -> None:
        """Count the seconds from now on."""
        self._started = time.perf_counter()

    def step(self, losses: Mapping[str, Tensor], progress: float) -> None:
        """Count a finished step; every `log_every` steps the mean losses are kept and printed.

        Until then the sums stay on their device: reading one would wait for the step.
        """
        self.finished += 1
        self._count += 1
        for key, value in losses.items():
            self._sums[key] = self._sums[key] + value.detach() if key in self._sums else value.detach()
        if self.finished % self.log_every == 0:
            self._log(progress)

    def finish(self) -> None:
        """Keep the losses of the last steps."""
        if self._count:
            self._log(1.0)

    def _log(self, progress: float) -> None:
        means = {key: round(float(value) / self._count, 4) for key, value in self._sums.items()}
        self.losses.append({"step": self.finished, **means})
        self._sums, self._count = {}, 0
        if self.quiet:
            return
        terms = "  ".join(f"{key} {value:.3f}" for key, value in means.items())
        print(f"{self.name}: step {self.finished} ({progress:.0%})  {terms}  {self.seconds:.0f} s", flush=True)

    def state(self) -> dict[str, Any]:
        """Return what `resume` needs."""
        return {
            "settings": json.dumps(self.settings, sort_keys=True),
            "losses": self.losses,
            "finished": self.finished,
            "seconds": self.seconds,
            "sums": self._sums,
            "count": self._count,
        }

    def resume(self, state: Mapping[str, Any]) -> bool:
        """Go on from a saved state; return whether it is one of a training with these settings."""
        if state["settings"] != json.dumps(self.settings, sort_keys=True):
            return False
        self.losses, self.finished, self._seconds_before = list(state["losses"]), state["finished"], state["seconds"]
        self._sums, self._count = dict(state.get("sums", {})), state.get("count", 0)  # older states lack them
        self.begin()
        if not self.quiet:
            print(f"{self.name}: resumed at step {self.finished}", flush=True)
        return True

    def write(self, folder: Path, held_out: Mapping[str, Any]) -> None:
        """Write `record.json` into the folder of the weights."""
        import torch

        write_json(
            folder / RECORD,
            {
                "name": self.name,
                "settings": dict(self.settings),
                "steps": self.finished,
                "seconds": round(self.seconds, 1),
                "losses": self.losses,
                "held_out": dict(held_out),
                "software": {"torch": torch.__version__.split("+")[0], "python": platform.python_version()},
                "device": self.device,
                "earlier": self.earlier,
            },
        )
