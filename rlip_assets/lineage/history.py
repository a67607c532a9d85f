"""The manifest that an item had before the one in the tree, so that a new result can be compared with the last one.

DVC removes a stage's outputs before it runs the stage, so the runner keeps the manifests of the last two different results beside its work.
They are no part of the lineage and can be deleted at any time; then nothing is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlip_assets.storage.errors import DataError
from rlip_assets.storage.files import read_object, write_json

FOLDER = "work/manifests"
Manifest = Mapping[str, Any]


def remember(root: Path, address: str, manifest: Manifest) -> None:
    """Note the manifest of a finished run; an equal one is no new result."""
    last = _read(_file(root, address, "last"))
    if last == manifest:
        return
    if last is not None:
        write_json(_file(root, address, "before"), last)
    write_json(_file(root, address, "last"), manifest)


def manifest_before(root: Path, manifest: Manifest) -> Manifest | None:
    """Return the manifest of the result before the one with `manifest`, None where none is known."""
    partition = manifest.get("partition")
    address = f"{manifest['stage']}@{partition}" if partition else str(manifest["stage"])
    last = _read(_file(root, address, "last"))
    return _read(_file(root, address, "before")) if last == manifest else last


def _file(root: Path, address: str, which: str) -> Path:
    return root / FOLDER / f"{address}.{which}.json"


def _read(path: Path) -> Manifest | None:
    try:
        return read_object(path, "remove it")
    except (OSError, DataError):
        return None
