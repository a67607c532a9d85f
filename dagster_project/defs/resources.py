"""Resources of the assets."""

import dagster as dg

from dagster_project.stage_assets import DvcStages


@dg.definitions
def resources() -> dg.Definitions:
    """`dvc` runs stages. Runs execute in one process: every step is a process of its own anyway, started by DVC."""
    return dg.Definitions(resources={"dvc": DvcStages()}, executor=dg.in_process_executor)
