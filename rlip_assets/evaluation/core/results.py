"""Results of an evaluator: figures of named protocols, and the classes behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core.average_precision import ClassRanks
from rlip_assets.evaluation.core.resampling import Resampling


@dataclass(frozen=True)
class ClassTable:
    """Results by class, C classes.

    Attributes:
        names: (C,) tuples of texts, such as ("person", "ride", "horse") or ("hold", "obj").
        keys: (C,) int64 class keys of the evaluator.
        ranks: detections, positives and ranks of the right detections.
        ap: (C,) average precision, 0..1.
    """

    names: Sequence[tuple[str, ...]]
    keys: npt.NDArray[np.int64]
    ranks: ClassRanks
    ap: npt.NDArray[np.float64]

    def curve(self, index: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Recall and precision of one class at its right detections, best score first."""
        ranks = self.ranks.of_class(index)
        found = np.arange(1, len(ranks) + 1)
        return found / max(1, int(self.ranks.positives[index])), found / ranks


@dataclass(frozen=True)
class ProtocolResult:
    """One benchmark under one protocol.

    Attributes:
        protocol: its name, such as "hico_det/rlipv2"; see `protocols.py`.
        variant: "plain" or "nms" where the protocol knows both, else "".
        figures: name to value, fractions 0..1; NaN for the mean of nothing.
        tables: results by class, by the name of the task ("" where there is only one).
        resampling: draws of the images, where the evaluator was asked for them.
    """

    protocol: str
    variant: str
    figures: Mapping[str, float]
    tables: Mapping[str, ClassTable] = field(default_factory=dict)
    resampling: Resampling | None = None

    @property
    def name(self) -> str:
        """Protocol and variant in one."""
        return f"{self.protocol}/{self.variant}" if self.variant else self.protocol


def ratio(part: float, whole: float) -> float:
    """`part / whole`, NaN where there is nothing to divide by."""
    return float(part / whole) if whole else float("nan")


def mean(values: npt.NDArray[np.floating]) -> float:
    """Mean, NaN for no values (without a warning)."""
    return float(np.mean(values)) if len(values) else float("nan")
