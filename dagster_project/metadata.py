"""Metadata of a materialisation in Dagster: figures, pictures, and links to DVC and MLflow."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_dvc.lock import LockEntry
from dagster_dvc.metadata import column_schema
from rlip_assets.lineage.profiles import PROJECT_ROOT
from rlip_assets.lineage.provenance import read_provenance
from rlip_assets.lineage.runner import flatten
from rlip_assets.lineage.spec import StageItem
from rlip_assets.storage.escape import markdown_cell
from rlip_assets.tracking.address import artifacts_folder, run_address

_PICTURE_SIZE = (720, 720)
_PICTURE_SUFFIXES = {".png", ".jpg"}
_MOST_FIGURES = 60
_MOST_PICTURES = 3


def describe(root: Path, item: StageItem, entry: LockEntry, manifest: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the metadata of an item as it is in the tree."""
    metadata: dict[str, Any] = {
        "path": dg.MetadataValue.path(str(root / next(iter(item.outputs.values())))),
        "dvc": dg.MetadataValue.json({"outs": dict(entry.outs), "deps": dict(entry.deps)}),
    }
    figures = flatten((manifest or {}).get("figures", {}))
    for name, value in list(figures.items())[:_MOST_FIGURES]:
        metadata[name] = value if isinstance(value, bool | int | float | str) else dg.MetadataValue.json(value)
    metadata |= column_schema(root, item.outputs.values())
    provenance = read_provenance(root, item)
    for name, value in provenance.get("seconds", {}).items():
        metadata[f"seconds/{name}"] = value
    if run := provenance.get("mlflow_run"):
        metadata["mlflow"] = dg.MetadataValue.url(run_address(provenance.get("mlflow_experiment"), run))
    for picture in pictures(root, item, provenance.get("mlflow_run")):
        metadata[f"picture/{picture.stem}"] = dg.MetadataValue.md(
            f"![{markdown_cell(picture.stem)}]({_data_uri(picture)})"
        )
    return metadata


def pictures(root: Path, item: StageItem, run: str | None = None, project: Path = PROJECT_ROOT) -> list[Path]:
    """Return the first few pictures of an item: those among its outputs, then those that only its MLflow `run` has."""
    folders = [root / path for path in item.outputs.values() if (root / path).is_dir()]
    found = [file for folder in folders for file in sorted(folder.rglob("*")) if file.suffix in _PICTURE_SUFFIXES]
    names = {file.name for file in found}
    artifacts = artifacts_folder(project)
    if run is not None and artifacts is not None:
        found += [
            file
            for file in sorted(artifacts.glob(f"*/{run}/artifacts/pictures/*"))
            if file.suffix in _PICTURE_SUFFIXES and file.name not in names
        ]
    return found[:_MOST_PICTURES]


def _data_uri(picture: Path) -> str:
    """Return the picture as a small JPEG in a data URI, so that it is stored in the event log itself."""
    from PIL import Image

    stream = io.BytesIO()
    with Image.open(picture) as image:
        shown = image.convert("RGB")
        shown.thumbnail(_PICTURE_SIZE)
        shown.save(stream, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
