"""What a materialisation shows in Dagster: figures, pictures, and the way to DVC and MLflow."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from rlip_assets.dvc_lock import LockEntry
from rlip_assets.stage_runner import flatten
from rlip_assets.stage_spec import StageItem

MLFLOW_ADDRESS_VARIABLE = "RLIP_MLFLOW_UI"
DEFAULT_MLFLOW_ADDRESS = "http://127.0.0.1:5000"
LOCK_TAG = "rlip/dvc_lock_entry"
"""Tag of a materialisation: fingerprint of the entry of dvc.lock that it reports."""
_LARGEST_PICTURE = 150_000
_MOST_FIGURES = 60
_MOST_PICTURES = 3


def describe(root: Path, item: StageItem, entry: LockEntry, manifest: Mapping[str, Any] | None) -> dict[str, Any]:
    """Metadata of an item as it lies in the tree."""
    metadata: dict[str, Any] = {
        "path": dg.MetadataValue.path(str(root / next(iter(item.outputs.values())))),
        "dvc": dg.MetadataValue.json({"outs": dict(entry.outs), "deps": dict(entry.deps)}),
    }
    figures = flatten((manifest or {}).get("figures", {}))
    for name, value in list(figures.items())[:_MOST_FIGURES]:
        metadata[name] = value if isinstance(value, bool | int | float | str) else dg.MetadataValue.json(value)
    provenance = read_provenance(root, item)
    for name, value in provenance.get("seconds", {}).items():
        metadata[f"seconds/{name}"] = value
    if run := provenance.get("mlflow_run"):
        address = os.environ.get(MLFLOW_ADDRESS_VARIABLE, DEFAULT_MLFLOW_ADDRESS)
        metadata["mlflow"] = dg.MetadataValue.url(
            f"{address}/#/experiments/{provenance.get('mlflow_experiment')}/runs/{run}"
        )
    for picture in pictures(root, item):
        metadata[f"picture/{picture.stem}"] = dg.MetadataValue.md(f"![{picture.stem}]({_data_uri(picture)})")
    return metadata


def read_provenance(root: Path, item: StageItem) -> dict[str, Any]:
    """The provenance of an item, empty where there is none."""
    try:
        content: dict[str, Any] = json.loads((root / item.provenance).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return content


def pictures(root: Path, item: StageItem) -> list[Path]:
    """The first few small pictures that an item wrote."""
    found = [
        file
        for path in item.outputs.values()
        if (root / path).is_dir()
        for file in sorted((root / path).rglob("*"))
        if file.suffix in {".png", ".jpg"} and file.stat().st_size <= _LARGEST_PICTURE
    ]
    return found[:_MOST_PICTURES]


def _data_uri(picture: Path) -> str:
    kind = "png" if picture.suffix == ".png" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture.read_bytes()).decode()}"
