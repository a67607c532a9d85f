"""Parameters of promotion: what a registered model must reach before it is a champion."""

from pydantic import BaseModel, ConfigDict, Field


class GateParams(BaseModel):
    """A gate between a trained model and the alias `champion`. No stage depends on it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str = "held_out_f1"
    """Figure of the model's manifest, measured on training images that were kept back."""
    floor: float = Field(default=0.3, ge=0, le=1)
    """Lowest value that may be promoted."""
    tolerance: float = Field(default=0.02, ge=0, le=1)
    """By how much it may stay below the value of the model that is promoted now."""


class PromotionParams(GateParams):
    """The gate of the R-Tagger, whose champion re-tagging follows, and that of the relation detectors."""

    detectors: GateParams = GateParams(metric="headline", floor=0.01, tolerance=0.01)
    """For pre-trained and fine-tuned networks; `metric` is a figure of their benchmark."""
