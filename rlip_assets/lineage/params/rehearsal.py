"""Parameters of a rehearsal: a profile's whole lineage on a handful of images with trainings of a few steps."""

from pydantic import BaseModel, ConfigDict, Field


class RehearsalParams(BaseModel):
    """Limits of a rehearsal. While `rehearsal` is not null every stage declares it, and report, checkpoints and MLflow runs carry the mark:
    its figures say that the pipeline works and nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: int = Field(ge=1)
    """Images read of each split of each dataset, the first ones by bucket."""
    steps: int = Field(ge=1)
    """Longest training, in optimiser steps."""

    def __str__(self) -> str:
        return f"rehearsal with at most {self.images} images per split and {self.steps} steps per training"
