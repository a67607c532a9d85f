"""Maps from a tagger's scores to the share of right labels among those with that score, strictly increasing, so that no ranking changes.

* Temperature scaling (Guo et al., ICML 2017): the score's logit divided by one number.
* Centred isotonic regression (Oron and Flournoy, 2017): isotonic regression has steps, on which different scores would become equal. Each
  step becomes one point, at the mean of its scores, and the map is linear between points, from (0, 0) to (1, 1).

Expected calibration error: the mean distance between confidence and share of right labels over bins of equal width, weighted by labels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from scipy.optimize import isotonic_regression, minimize_scalar

from rlip_assets.storage.errors import DataError, InputError

CALIBRATION_FILE = "calibration.json"
BINS = 15
Scores = npt.NDArray[np.floating[Any]]
Right = npt.NDArray[np.bool_]
_LARGEST_LOG_TEMPERATURE = 3.0


class _Fitted(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    tagger: str = ""
    """Digest of the R-Tagger whose scores it was fitted to."""


class Temperature(_Fitted):
    """Temperature scaling: above 1 for a tagger that is too sure of itself."""

    method: Literal["temperature"] = "temperature"
    temperature: float = Field(gt=0, allow_inf_nan=False)

    def __call__(self, scores: Scores) -> Scores:
        """Return the calibrated confidences of scores in 0..1, of the same shape and type."""
        return _tempered(scores, self.temperature)

    def undo(self, confidences: Scores) -> Scores:
        """Return the scores of calibrated confidences."""
        return _tempered(confidences, 1 / self.temperature)


class Isotonic(_Fitted):
    """Centred isotonic regression: linear between points, both of whose columns strictly increase from 0 to 1."""

    method: Literal["isotonic"] = "isotonic"
    scores: tuple[float, ...]
    confidences: tuple[float, ...]

    @model_validator(mode="after")
    def _increasing(self) -> Isotonic:
        for name in ("scores", "confidences"):
            values = np.asarray(getattr(self, name))
            if len(values) < 2 or values[0] != 0 or values[-1] != 1 or not (np.diff(values) > 0).all():
                raise ValueError(f"{name} must strictly increase from 0 to 1")
        if len(self.scores) != len(self.confidences):
            raise ValueError("there must be as many scores as confidences")
        return self

    def __call__(self, scores: Scores) -> Scores:
        """Return the calibrated confidences of scores in 0..1, of the same shape and type."""
        return np.interp(scores, self.scores, self.confidences).astype(scores.dtype)

    def undo(self, confidences: Scores) -> Scores:
        """Return the scores of calibrated confidences."""
        return np.interp(confidences, self.confidences, self.scores).astype(confidences.dtype)


Calibration = Temperature | Isotonic
Method = Literal["temperature", "isotonic"]


def fit_calibration(method: Method, scores: Scores, right: Right) -> Calibration:
    """Fit a map to n scores in 0..1, of labels that are right or wrong.

    Raises:
        DataError: no scores, or one that is no number in 0..1.
    """
    if not len(scores):
        raise DataError(
            "no label to fit a calibration on; hold out more images of Visual Genome, or set tagging.calibration: none"
        )
    if not ((scores >= 0) & (scores <= 1)).all():
        raise DataError(f"row {int(np.argmin((scores >= 0) & (scores <= 1)))} has a score that is no number in 0..1")
    fit: Callable[[Scores, Right], Calibration] = _fit_temperature if method == "temperature" else _fit_isotonic
    return fit(scores.astype(np.float64), right)


def _tempered(values: Scores, temperature: float) -> Scores:
    """Divide logits by a temperature, without their infinities at 0 and 1."""
    wide = values.astype(np.float64)
    yes, no = wide ** (1 / temperature), (1 - wide) ** (1 / temperature)
    return (yes / (yes + no)).astype(values.dtype)


def _fit_temperature(scores: Scores, right: Right) -> Temperature:
    """Minimise the cross-entropy of what is right."""
    smallest = 1e-7
    inside = np.clip(scores, smallest, 1 - smallest)
    sure = np.where(right, 1, -1) * np.log(inside / (1 - inside))

    def cross_entropy(log_temperature: float) -> float:
        return float(np.logaddexp(0, -sure / np.exp(log_temperature)).mean())

    bounds = (-_LARGEST_LOG_TEMPERATURE, _LARGEST_LOG_TEMPERATURE)
    return Temperature(temperature=float(np.exp(minimize_scalar(cross_entropy, bounds=bounds, method="bounded").x)))


def _fit_isotonic(scores: Scores, right: Right) -> Isotonic:
    """Fit the points. A share of 0 or 1, which no finite number of labels shows, is moved inwards by half a label of all."""
    values, where, counts = np.unique(scores, return_inverse=True, return_counts=True)
    shares = np.bincount(where, weights=right) / counts
    blocks = isotonic_regression(shares, weights=counts).blocks
    labels = np.add.reduceat(counts, blocks[:-1])
    centres = np.add.reduceat(values * counts, blocks[:-1]) / labels
    heights = np.add.reduceat(shares * counts, blocks[:-1]) / labels
    half = 0.5 / (len(scores) + 1)
    heights = np.clip(heights, half, 1 - half)
    points = {0.0: 0.0}
    for centre, height in zip(centres.tolist(), heights.tolist(), strict=True):
        if 0 < centre < 1 and height > list(points.values())[-1]:
            points[centre] = height
    return Isotonic(scores=(*points, 1.0), confidences=(*points.values(), 1.0))


def read_calibration(path: Path) -> Calibration:
    """Return a calibration that the stage wrote.

    Raises:
        InputError: the file is missing or damaged.
    """
    adapter: TypeAdapter[Calibration] = TypeAdapter(Annotated[Calibration, Field(discriminator="method")])
    try:
        return adapter.validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; run the stage 'calibration' that writes it") from None
    except (ValidationError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is no calibration ({reason}); run the stage 'calibration' again") from None


def reliability(confidence: Scores, right: Right, bins: int = BINS) -> dict[str, Any]:
    """Return the reliability curve, one entry per bin with labels, and the expected calibration error; None of no labels."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    curve, error = [], 0.0
    for number in range(bins):
        inside = place == number
        if not inside.any():
            continue
        mean, share = float(confidence[inside].mean()), float(right[inside].mean())
        curve.append({"from": number / bins, "labels": int(inside.sum()), "confidence": mean, "right": share})
        error += inside.sum() / len(confidence) * abs(mean - share)
    return {"curve": curve, "expected_calibration_error": float(error) if curve else None}


def cross_validated_error(method: Method, scores: Scores, right: Right, second_half: Right) -> float | None:
    """Return the expected calibration error of labels whose map was fitted to the other half; None where a half is empty.

    With few labels it is above that of the map of all: each half has half of them to fit, and bins of few labels stray by chance.
    """
    if second_half.all() or not second_half.any():
        return None
    confidence = scores.astype(np.float64)
    for part in (second_half, ~second_half):
        confidence[part] = fit_calibration(method, scores[~part], right[~part])(confidence[part])
    error: float | None = reliability(confidence, right)["expected_calibration_error"]
    return error
