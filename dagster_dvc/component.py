"""The component: one `defs.yaml` makes a DVC project's stages assets and keeps Dagster informed of what DVC did by itself."""

from __future__ import annotations

import re
from pathlib import Path

import dagster as dg
from pydantic import Field

from dagster_dvc.assets import build_assets
from dagster_dvc.lock import state
from dagster_dvc.project import DvcProject, DvcProjectError, read_project
from dagster_dvc.reporting import report_external, unknown
from dagster_dvc.translator import DvcTranslator


class DvcProjectComponent(dg.Component, dg.Model, dg.Resolvable):
    """Load every stage of a DVC project as an asset. Subclass it to give another translator."""

    project: str = Field(default=".", description="Folder of the DVC project, relative to this file.")
    prefix: list[str] = Field(default_factory=list, description="First parts of all asset keys.")
    pool: str | None = Field(default=None, description="Concurrency pool of all stages.")
    synchronise: bool = Field(default=True, description="Report what DVC does outside Dagster, by a sensor.")
    sensor: str = Field(default="", description="Name of that sensor; the prefix and `dvc_synchronisation` by default.")
    seconds: int = Field(default=30, ge=1, description="Least seconds between two looks of that sensor.")

    def translator(self) -> DvcTranslator:
        """Return the translator of stages into assets."""
        return DvcTranslator(self.prefix, self.pool)

    def read(self, folder: Path) -> DvcProject:
        """Read the project that lies relative to `folder`."""
        return read_project(folder / self.project)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the assets and the sensor."""
        project, translator = self.read(context.path), self.translator()
        sensors = [build_sensor(project, translator, self.seconds, self.sensor)] if self.synchronise else []
        return dg.Definitions(assets=build_assets(project, translator), sensors=sensors)


def load_definitions(folder: str | Path, translator: DvcTranslator | None = None) -> dg.Definitions:
    """Return the assets and the sensor of the DVC project that `folder` belongs to, for a code location without components."""
    project, translator = read_project(Path(folder)), translator or DvcTranslator()
    return dg.Definitions(assets=build_assets(project, translator), sensors=[build_sensor(project, translator)])


def build_sensor(
    project: DvcProject, translator: DvcTranslator, seconds: int = 30, name: str = ""
) -> dg.SensorDefinition:
    """Return the sensor that reports external materialisations; it looks closer only when DVC has recorded something."""
    name = name or re.sub(r"\W", "_", "_".join([*translator.prefix, "dvc_synchronisation"]), flags=re.ASCII)

    @dg.sensor(name=name, minimum_interval_seconds=seconds, default_status=dg.DefaultSensorStatus.RUNNING)
    def synchronise(context):  # type: ignore[no-untyped-def]
        """Report what `dvc repro` or `dvc pull` did outside Dagster as external materialisations; no step runs."""
        now = state(project)
        if now == context.cursor:
            return dg.SensorResult(skip_reason="DVC has recorded nothing since the last look", cursor=now)
        try:
            reported = report_external(context.instance, project, translator)
            held = [item.address for item, _ in unknown(context.instance, project, translator)]
        except DvcProjectError as error:
            return dg.SensorResult(skip_reason=str(error), cursor=context.cursor)
        names = ", ".join(item.address for item in reported)
        said = f"reported {len(reported)} external materialisations: {names}" if reported else "Dagster knows all of it"
        if held:
            said += f"; not in the tree as dvc.lock records them (`dvc checkout` brings them): {', '.join(held)}"
        return dg.SensorResult(skip_reason=said, cursor=context.cursor if held else now)

    return synchronise
