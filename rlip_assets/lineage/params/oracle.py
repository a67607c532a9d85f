"""Parameters of studies that give a stage the truth instead of a model's output."""

from pydantic import BaseModel, ConfigDict


class OracleParams(BaseModel):
    """Stages that use the ground truth kept aside by the micro world. All off but in a study; real datasets have no such ground truth."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    captions: bool = False
    """Captions are sentences about the true relations of each image; no captioner is asked."""
