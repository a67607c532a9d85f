"""A `defs.yaml` that names a DVC project gives its assets and the sensor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster.components.testing import create_defs_folder_sandbox

from dagster_dvc import DvcProjectComponent, DvcTranslator, Stage


class Loud(DvcTranslator):
    def key(self, stage: Stage) -> dg.AssetKey:
        return dg.AssetKey([part.upper() for part in stage.path])


class LoudComponent(DvcProjectComponent):
    """A component whose keys are in capitals."""

    def translator(self) -> DvcTranslator:
        return Loud()


@pytest.mark.parametrize(
    ("component", "keys"),
    [
        (DvcProjectComponent, {"lake/data/load", "lake/features/build", "lake/model/fit"}),
        (LoudComponent, {"DATA/LOAD", "FEATURES/BUILD", "MODEL/FIT"}),
    ],
)
def test_one_file_makes_a_project_assets(shapes: Path, component: type[DvcProjectComponent], keys: set[str]) -> None:
    with create_defs_folder_sandbox() as sandbox:
        contents = {
            "type": f"{component.__module__}.{component.__name__}",
            "attributes": {"project": str(shapes / "monorepo"), "prefix": ["lake"], "pool": "disk"},
        }
        path = sandbox.scaffold_component(component_cls=component, defs_yaml_contents=contents)
        with sandbox.load_component_and_build_defs(defs_path=path) as (loaded, defs):
            assert isinstance(loaded, component)
            assert {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()} == keys
            defs.resolve_asset_graph()
            (sensor,) = defs.get_repository_def().sensor_defs
            assert sensor.name.endswith("dvc_synchronisation")


def test_the_package_knows_nothing_of_this_project() -> None:
    code = "import sys, dagster_dvc; print([m for m in sys.modules if m.startswith(('rlip', 'dagster_project', 'torch', 'mlflow'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
