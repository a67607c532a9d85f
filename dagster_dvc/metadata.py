"""Metadata of a materialisation in Dagster: hashes, metrics, and pictures among plots and outputs."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from dagster_dvc.lock import LockEntry
from dagster_dvc.project import Item

MOST_FIGURES, MOST_PICTURES, LARGEST_PICTURE = 60, 3, 500_000
_PICTURES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".svg": "svg+xml"}


def describe(root: Path, item: Item, entry: LockEntry) -> dict[str, Any]:
    """Return the metadata of an item as it lies in the tree: metrics are read from their files, pictures are embedded."""
    metadata: dict[str, Any] = {"dvc": dg.MetadataValue.json({"outs": dict(entry.outs), "deps": dict(entry.deps)})}
    if item.outs:
        metadata["path"] = dg.MetadataValue.path(str(root / item.outs[0]))
    metadata |= column_schema(root, item.outs)
    figures = dict(pair for path in item.metrics for pair in _figures(root / path))
    for name, value in list(figures.items())[:MOST_FIGURES]:
        metadata[name] = value
    for picture in list(_pictures(root, item))[:MOST_PICTURES]:
        data = base64.b64encode(picture.read_bytes()).decode()
        uri = f"data:image/{_PICTURES[picture.suffix.lower()]};base64,{data}"
        metadata[f"picture/{picture.stem}"] = dg.MetadataValue.md(f"![{picture.stem}]({uri})")
    return metadata


def column_schema(root: Path, outs: Iterable[str]) -> dict[str, dg.TableSchema]:
    """Return the columns of the first Parquet file among outputs as Dagster's metadata; nothing without one, or without pyarrow."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        return {}
    places = (root / out for out in outs)
    files = (file for place in places for file in (sorted(place.rglob("*.parquet")) if place.is_dir() else [place]))
    table = next((file for file in files if file.suffix == ".parquet" and file.is_file()), None)
    if table is None:
        return {}
    constraints = {True: dg.TableColumnConstraints(nullable=True), False: dg.TableColumnConstraints(nullable=False)}
    columns = [
        dg.TableColumn(one.name, str(one.type), constraints=constraints[one.nullable]) for one in pq.read_schema(table)
    ]
    return {"dagster/column_schema": dg.TableSchema(columns)}


def _figures(file: Path) -> Iterator[tuple[str, bool | int | float | str]]:
    """Yield the dotted names and values of a metrics file; nothing of one that is missing or of another form."""
    try:
        text = file.read_text()
        content = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        return
    yield from _flat(content, "")


def _flat(value: Any, name: str) -> Iterator[tuple[str, bool | int | float | str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, bool | int | float | str) and name:
        yield name, value


def _pictures(root: Path, item: Item) -> Iterator[Path]:
    for path in dict.fromkeys((*item.plots, *item.outs)):
        place = root / path
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        for file in files:
            if file.suffix.lower() in _PICTURES and file.is_file() and file.stat().st_size <= LARGEST_PICTURE:
                yield file
