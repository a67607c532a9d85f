"""Parameters of the pseudo-label stages."""

from pydantic import BaseModel, ConfigDict


class CaptionParams(BaseModel):
    """Parameters of captioning."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ParsingParams(BaseModel):
    """Parameters of caption parsing."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CandidateParams(BaseModel):
    """Parameters of candidate matching."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TaggingParams(BaseModel):
    """Parameters of tagging."""

    model_config = ConfigDict(extra="forbid", frozen=True)
