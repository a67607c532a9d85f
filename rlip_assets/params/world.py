"""Parameters of the world stages."""

from pydantic import BaseModel, ConfigDict


class WorldParams(BaseModel):
    """Parameters of the world stages."""

    model_config = ConfigDict(extra="forbid", frozen=True)
