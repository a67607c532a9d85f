"""Parameters of promotion: what a registered model must reach before labels are made with it."""

from pydantic import BaseModel, ConfigDict, Field


class PromotionParams(BaseModel):
    """The gate between a trained R-Tagger and the alias that re-tagging watches. No stage depends on it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str = "held_out_f1"
    """Figure of the model's manifest, measured on training images that were kept back."""
    floor: float = Field(default=0.3, ge=0, le=1)
    """Lowest value that may be promoted."""
    tolerance: float = Field(default=0.02, ge=0, le=1)
    """By how much it may stay below the value of the model that is promoted now."""
