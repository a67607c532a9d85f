"""Checkpoints of a training beside its last state: the best one by an evaluated figure, and one at regular steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlip_model import LabelTokenizer, Rlip, save_checkpoint

BEST = "best"


@dataclass(frozen=True)
class RetainedCheckpoints:
    """Folders `best` and `step-NNNNNN` below `folder`. They follow from the history alone, so a resumed training retains the same.

    The state to resume from is saved before `best` is replaced, so that `best` is never of a step that the history lacks.

    Attributes:
        metric: key of the history's rows whose highest value marks the best one; the first of equals counts.
        every: steps between two that stay; None retains only the best one.
        metadata: goes into every checkpoint, with the step and its figures.
    """

    folder: Path
    metric: str
    every: int | None
    metadata: Mapping[str, Any]

    def update(self, rows: Sequence[Mapping[str, float]], model: Rlip, tokenizer: LabelTokenizer) -> None:
        """Save the network after the last of `rows` if it is the best so far or its turn."""
        step = int(rows[-1]["step"])
        names = [BEST] if best_step(rows, self.metric) == step else []
        if self.every and step % self.every == 0:
            names.append(f"step-{step:06d}")
        for name in names:
            figures = {"step": step, **{key: value for key, value in rows[-1].items() if key == self.metric}}
            save_checkpoint(self.folder / name, model, tokenizer, {**self.metadata, "figures": figures})


def best_step(rows: Sequence[Mapping[str, float]], metric: str) -> int | None:
    """Return the step of the highest `metric`, the first of equals; None where no row has it."""
    judged = [row for row in rows if metric in row]
    return int(max(judged, key=lambda row: row[metric])["step"]) if judged else None
