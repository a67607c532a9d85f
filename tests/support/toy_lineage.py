"""The toy lineage as a DVC project in a folder and as a Dagster location."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg

from dagster_dvc import read_project
from dagster_dvc.assets import build_assets
from dagster_dvc.lock import read_lock
from dagster_dvc.reporting import DATA_VERSION_TAG
from dagster_project.location import Location
from dagster_project.translator import PipelineTranslator
from rlip_assets.dvc.pipeline import render_dvc_yaml
from rlip_assets.lineage.params_yaml import render_params_yaml
from rlip_assets.lineage.versions import VERSIONS_FILE
from rlip_assets.storage.files import write_text
from tests.support.toy_stages import toy_registry

PROJECT = Path(__file__).resolve().parents[2]
ROOT_VARIABLE = "TOY_LINEAGE_ROOT"
TARGET = "tests.support.toy_lineage:toy_location"


def make_project(root: Path) -> Path:
    """A DVC project of the toy lineage in the empty folder `root`."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(render_params_yaml(root / "params.yaml"))
    versions = {name: {"version": 1, "source": "toy"} for name in toy_registry().specs}
    write_text(root / VERSIONS_FILE, json.dumps(versions))
    text = render_dvc_yaml(toy_registry()).replace("cmd: rlip stage", "cmd: python -m tests.support.toy_stages stage")
    (root / "dvc.yaml").write_text(text)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=root, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "config", "core.analytics", "false"], cwd=root, check=True)
    return root


def environment(root: Path) -> dict[str, str]:
    """Variables under which DVC and workers find the toy stages."""
    path = os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])
    return {
        "PYTHONPATH": path,
        ROOT_VARIABLE: str(root),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def toy_location() -> Location:
    """Return the toy lineage in the folder that the environment names."""
    project, registry = read_project(Path(os.environ[ROOT_VARIABLE])), toy_registry()
    translator = PipelineTranslator(registry, "toy")
    assets = build_assets(project, translator)
    return Location(dg.Definitions(assets=assets, executor=dg.in_process_executor), registry, project, translator)


def shown_version(instance: dg.DagsterInstance, location: Location, address: str) -> str:
    """Return the data version that Dagster shows of an item."""
    stage, item = location.project.stage_of[address], location.project.at[address]
    partitions = [str(item.key)] if stage.partitioned else None
    chosen = dg.AssetRecordsFilter(location.translator.key(stage), asset_partitions=partitions)
    materialization = instance.fetch_materializations(chosen, limit=1).records[0].asset_materialization
    assert materialization is not None
    return str((materialization.tags or {})[DATA_VERSION_TAG])


def recorded_versions(location: Location) -> dict[str, str]:
    """Return the data version of each item by what DVC recorded."""
    recorded, translator = read_lock(location.project), location.translator
    return {
        item.address: translator.recorded(item, recorded[item.address]).data_version for item in location.project.items
    }
