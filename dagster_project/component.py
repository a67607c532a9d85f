"""The component of this project's pipeline: the DVC project of the active profile, by its translator."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from dagster_dvc import DvcProject, DvcProjectComponent
from dagster_project.location import active_project, active_translator
from dagster_project.translator import PipelineTranslator


class Pipeline(DvcProjectComponent):
    """Load the stages of the profile that RLIP_PROFILE names (`micro` by default) as assets."""

    def translator(self) -> PipelineTranslator:
        """Return the translator of the active profile."""
        return active_translator()

    def read(self, folder: Path) -> DvcProject:
        """Return the DVC project of the active profile."""
        return active_project()

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return assets and sensor. Runs execute in one process: every step is a process of its own anyway, started by DVC."""
        return dg.Definitions.merge(super().build_defs(context), dg.Definitions(executor=dg.in_process_executor))
