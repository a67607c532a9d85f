"""Metadata of a materialisation beside what `dagster_dvc` shows: figures, seconds, and the run in MLflow with its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg

from dagster_dvc.metadata import MOST_FIGURES, pictures
from rlip_assets.lineage.profiles import PROJECT_ROOT
from rlip_assets.lineage.provenance import read_provenance
from rlip_assets.lineage.runner import flatten, read_manifest
from rlip_assets.lineage.spec import StageItem
from rlip_assets.tracking.address import artifacts_folder, run_address


def describe(root: Path, item: StageItem, project: Path = PROJECT_ROOT) -> dict[str, Any]:
    """Return what manifest, provenance and MLflow run of an item say; `project` has the tracking store."""
    figures = list(flatten((read_manifest(root, item) or {}).get("figures", {})).items())[:MOST_FIGURES]
    metadata: dict[str, Any] = {
        name: value if isinstance(value, bool | int | float | str) else dg.MetadataValue.json(value)
        for name, value in figures
    }
    provenance = read_provenance(root, item)
    metadata |= {f"seconds/{name}": value for name, value in provenance.get("seconds", {}).items()}
    if run := provenance.get("mlflow_run"):
        metadata["mlflow"] = dg.MetadataValue.url(run_address(provenance.get("mlflow_experiment"), run))
        artifacts = artifacts_folder(project)
        metadata |= pictures(sorted(artifacts.glob(f"*/{run}/artifacts/pictures")) if artifacts else [])
    return metadata
