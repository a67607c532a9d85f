"""Parameters of the benchmark stages."""

from pydantic import BaseModel, ConfigDict, Field


class BenchmarkParams(BaseModel):
    """Parameters of the evaluation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    floor: float = Field(default=0.01, ge=0, le=1)
    """Headline figure (fraction) below which the asset check `metric_above_floor` warns: HICO-DET mAP, V-COCO role AP S1, Open Images
    score_wtd."""
