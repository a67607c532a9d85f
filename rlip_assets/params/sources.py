"""Parameters of the sources stages."""

from pydantic import BaseModel, ConfigDict


class SourcesParams(BaseModel):
    """Parameters of the sources stages."""

    model_config = ConfigDict(extra="forbid", frozen=True)
