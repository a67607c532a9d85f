"""Parameters of studies that give a stage the truth instead of a model's output."""

from pydantic import BaseModel, ConfigDict


class OracleParams(BaseModel):
    """What is taken from the truth that the micro world keeps aside. All off but in a study; real datasets have no such truth."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    captions: bool = False
    """Captions are sentences about the true relations of each image; no captioner is asked."""
