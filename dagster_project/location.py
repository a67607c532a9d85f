"""The pipeline as one value: definitions, stages and folder. Launcher and sensors work on one, so tests can give them a small one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import dagster as dg

from dagster_dvc import DvcProject, read_project
from dagster_project.profile import active_profile
from dagster_project.translator import PipelineTranslator
from rlip_assets.lineage.spec import Registry


@dataclass(frozen=True)
class Location:
    """A pipeline that can be materialised and synchronised."""

    definitions: dg.Definitions
    registry: Registry
    project: DvcProject
    translator: PipelineTranslator

    @property
    def root(self) -> Path:
        """Folder of the profile."""
        return self.project.root

    @cached_property
    def job(self) -> dg.JobDefinition:
        """The job of all assets; a run of it is narrowed to one asset and partition."""
        return self.definitions.resolve_implicit_global_asset_job_def()

    def key(self, stage: str) -> dg.AssetKey:
        """Return the key of the asset that shows a stage."""
        return self.translator.key(self.project.stage_of[self.registry.spec(stage).items[0].address])


@cache
def active_project() -> DvcProject:
    """Read the DVC project of the active profile."""
    return read_project(active_profile().root)


@cache
def active_translator() -> PipelineTranslator:
    """Return the translator of the active profile."""
    profile = active_profile()
    return PipelineTranslator(profile.registry, profile.name, profile.execution)


def active_location() -> Location:
    """Return the pipeline of the active profile."""
    from dagster_project.definitions import defs

    return Location(defs(), active_profile().registry, active_project(), active_translator())
