"""Parameters of the benchmarks stages."""

from pydantic import BaseModel, ConfigDict


class BenchmarkParams(BaseModel):
    """Parameters of the benchmarks stages."""

    model_config = ConfigDict(extra="forbid", frozen=True)
