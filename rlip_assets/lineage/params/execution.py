"""The engine that makes the shards of a stage. No result follows from it, so no stage declares it as a parameter."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ExecutionParams(BaseModel):
    """The engine that makes the shards of captions, caption triplets and pseudo labels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["here", "processes", "ray"] = "here"
    """`here`: in the stage's process, one shard after the other; `processes`: worker processes on this machine, each on a GPU of its own
    where there are several; `ray`: actors on a Ray cluster that sees this profile's folder under the same path (the extra ray)."""
    workers: int = Field(default=1, ge=1)
    """Worker processes or actors."""
    ray_address: str | None = None
    """Address of the cluster, "auto" for the one that this machine belongs to; null starts Ray on this machine alone."""
    cpus_per_worker: float = Field(default=1.0, ge=0)
    gpus_per_worker: float = Field(default=0.0, ge=0)
    """Processors and GPUs that Ray reserves per actor."""

    buckets_per_run: int | None = Field(default=1, ge=1)
    """Buckets in one Dagster run of a backfill; null takes all of them in a single run, one after the other in one DVC process.
    How many runs go at a time is the instance's business (`dagster_home/dagster.yaml`)."""

    webhook: str | None = Field(default=None, pattern=r"^(https?://|\$)")
    """Address that is told of a failed or overdue re-tagging (JSON with `text`); $NAME is that of an environment variable. null: the log
    alone."""
    retag_hours: float = Field(default=24.0, gt=0)
    """Hours after which a re-tagging that is not done is overdue."""

    keep_days: float | None = Field(default=90.0, gt=0)
    """Days after which is deleted: an ended Dagster run with its events and logs, unless it holds the last materialisation of an asset or
    partition; a run in MLflow with its models and artifacts, unless an alias, a result or a comparison needs it; leftovers in the work
    folder that nothing refers to. null: never."""

    @model_validator(mode="after")
    def _several_workers_need_an_engine(self) -> "ExecutionParams":
        if self.engine == "here" and self.workers > 1:
            raise ValueError(f"{self.workers} workers need the engine processes or ray")
        return self
