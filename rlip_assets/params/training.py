"""Parameters of the training stages."""

from pydantic import BaseModel, ConfigDict


class TrainingParams(BaseModel):
    """Parameters of the training stages."""

    model_config = ConfigDict(extra="forbid", frozen=True)
