"""Metadata of a materialisation in Dagster: hashes, metrics, and pictures among plots and outputs."""

from __future__ import annotations

import base64
import io
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_dvc.lock import LockEntry
from dagster_dvc.project import Item

MOST_FIGURES, MOST_PICTURES, MOST_FILES = 60, 3, 2000  # the last: looked at in one folder
_LARGE_BYTES, _PIXELS = 50_000, 720
_PICTURES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".svg": "svg+xml"}
_UNSAFE = r"[^\w .-]"  # characters of a file's name that could mean something in Markdown
_Figure = bool | int | float | str


def describe(root: Path, item: Item, entry: LockEntry) -> dict[str, Any]:
    """Return the metadata of an item as it lies in the tree: metrics are read from their files, pictures are embedded."""
    metadata: dict[str, Any] = dict(islice(_figures(root, item.metrics), MOST_FIGURES))
    metadata["dvc"] = dg.MetadataValue.json({"outs": dict(entry.outs), "deps": dict(entry.deps)})
    if item.outs:
        metadata["path"] = dg.MetadataValue.path(str(root / item.outs[0]))
    found = pictures(root / path for path in dict.fromkeys((*item.plots, *item.outs)))
    return metadata | column_schema(root, item.outs) | found


def pictures(places: Iterable[Path]) -> dict[str, dg.MarkdownMetadataValue]:
    """Return the first few pictures among files and folders, stored in the event; large ones made small, where Pillow can do that."""
    found: dict[str, dg.MarkdownMetadataValue] = {}
    chosen = (file for place in places for file in _files(place) if file.suffix.lower() in _PICTURES and file.is_file())
    for file in islice(chosen, MOST_PICTURES):
        large = file.stat().st_size > _LARGE_BYTES
        kind, content = ("jpeg", _small(file)) if large else (_PICTURES[file.suffix.lower()], file.read_bytes())
        if content:
            uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
            name = file.stem if f"picture/{file.stem}" not in found else f"{file.parent.name}/{file.stem}"
            found[f"picture/{name}"] = dg.MetadataValue.md(f"![{re.sub(_UNSAFE, ' ', file.stem)}]({uri})")
    return found


def column_schema(root: Path, outs: Iterable[str]) -> dict[str, dg.TableSchema]:
    """Return the columns of the first Parquet file among outputs as Dagster's metadata; nothing without one, or without pyarrow."""
    try:
        import pyarrow.parquet as pq

        tables = (file for out in outs for file in _files(root / out) if file.suffix == ".parquet" and file.is_file())
        fields = list(pq.read_schema(table)) if (table := next(tables, None)) else []
    except (ImportError, OSError, ValueError):  # no pyarrow, or no Parquet in the file of that name
        return {}
    columns = [
        dg.TableColumn(one.name, str(one.type), constraints=dg.TableColumnConstraints(nullable=one.nullable))
        for one in fields
    ]
    return {"dagster/column_schema": dg.TableSchema(columns)} if columns else {}


def fenced(lines: Sequence[str]) -> str:
    """Return lines as a Markdown code block that nothing in them can end."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence, *lines, fence])


def _files(place: Path) -> list[Path]:
    return sorted(islice(place.rglob("*"), MOST_FILES)) if place.is_dir() else [place]


def _figures(root: Path, metrics: Iterable[str]) -> Iterator[tuple[str, _Figure]]:
    """Yield the dotted names and values of metrics files; names that several files have begin with the file, as DVC writes it."""
    read = {path: dict(_flat(_content(path), "")) for place in metrics for path in _files(root / place)}
    times = Counter(name for figures in read.values() for name in figures)
    for path, figures in read.items():
        for name, value in figures.items():
            yield name if times[name] == 1 else f"{os.path.relpath(path, root)}:{name}", value


def _content(file: Path) -> Any:
    """Return the content of a metrics file, parsed as DVC parses it; nothing of one that is missing or of another form."""
    from dvc.exceptions import DvcException
    from dvc.fs import localfs
    from dvc.utils.serialize import load_path

    try:
        content = load_path(str(file), localfs)
    except (DvcException, OSError, ValueError):
        return {}
    return {file.stem: content} if isinstance(content, int | float) else content


def _flat(value: Any, name: str) -> Iterator[tuple[str, _Figure]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, _Figure) and name:
        yield name, finite(value)


def finite(value: Any) -> Any:
    """Return an infinite value, or one that is not a number, as text, for Dagster's pages cannot show it; any other as it is."""
    number = getattr(value, "value", value)
    return str(number) if isinstance(number, float) and not math.isfinite(number) else value


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
