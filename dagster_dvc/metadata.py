"""Metadata of a materialisation in Dagster: hashes, metrics, and pictures among plots and outputs."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from dagster_dvc.lock import LockEntry
from dagster_dvc.project import Item

MOST_FIGURES, MOST_PICTURES = 60, 3
_LARGE_BYTES, _PIXELS = 50_000, 720
_PICTURES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".svg": "svg+xml"}
_UNSAFE = r"[^\w .-]"
"""Characters of a file's name that could mean something in Markdown."""


def describe(root: Path, item: Item, entry: LockEntry) -> dict[str, Any]:
    """Return the metadata of an item as it lies in the tree: metrics are read from their files, pictures are embedded."""
    metadata: dict[str, Any] = {"dvc": dg.MetadataValue.json({"outs": dict(entry.outs), "deps": dict(entry.deps)})}
    if item.outs:
        metadata["path"] = dg.MetadataValue.path(str(root / item.outs[0]))
    metadata |= column_schema(root, item.outs)
    figures = dict(pair for path in item.metrics for pair in _figures(root / path))
    for name, value in list(figures.items())[:MOST_FIGURES]:
        metadata[name] = value
    return metadata | pictures(root / path for path in (*item.plots, *item.outs))


def pictures(places: Iterable[Path]) -> dict[str, dg.MarkdownMetadataValue]:
    """Return the first few pictures among files and folders as metadata, stored in the event itself.

    Large ones are made small by Pillow, and left out where it is not installed or cannot read them.
    """
    found: dict[str, dg.MarkdownMetadataValue] = {}
    files = (file for place in places for file in (sorted(place.rglob("*")) if place.is_dir() else [place]))
    chosen = (file for file in files if file.suffix.lower() in _PICTURES and file.is_file())
    for file in islice(chosen, MOST_PICTURES):
        large = file.stat().st_size > _LARGE_BYTES
        kind, content = ("jpeg", _small(file)) if large else (_PICTURES[file.suffix.lower()], file.read_bytes())
        if content:
            uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
            found[f"picture/{file.stem}"] = dg.MetadataValue.md(f"![{re.sub(_UNSAFE, ' ', file.stem)}]({uri})")
    return found


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


def _small(file: Path) -> bytes:
    """Return a picture as a small JPEG file, empty where Pillow is missing or cannot read it."""
    try:
        from PIL import Image

        with Image.open(file) as image:
            image.thumbnail((_PIXELS, _PIXELS))
            image.convert("RGB").save(stream := io.BytesIO(), format="JPEG", quality=85)
        return stream.getvalue()
    except Exception:  # Pillow has many words for a broken picture; none is a reason to fail the run that made it
        return b""
