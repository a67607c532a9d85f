"""Promotion: a person says that a registered model is good enough to make labels with.

MLflow keeps the alias; a small file in the profile keeps the model's hash in DVC, so that sensors need not import a tracking store.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rlip_assets.dvc_lock import DvcLock
from rlip_assets.errors import InputError
from rlip_assets.files import write_json
from rlip_assets.registry import load_registry

PROMOTIONS_FILE = "data/promoted.json"


@dataclass(frozen=True)
class Promotion:
    """One promoted model: its version in MLflow and its hash in DVC."""

    model: str
    version: str
    run: str
    data_version: str


def promote(root: Path, model: str, version: str | None = None) -> Promotion:
    """Promote a version of `model`, which is the name of the stage that trains it.

    Raises:
        InputError: no such model or version, or the version is not the one that lies in the tree.
    """
    from rlip_assets.tracking import promote_model

    item = load_registry(root).item(model)
    entry = DvcLock.read(root).get(item.address)
    if entry is None:
        raise InputError(
            f"{root / 'dvc.lock'} has no {item.address}; train it with `dvc repro --single-item {item.address}`"
        )
    promoted, run = promote_model(model, version)
    record = Promotion(model, promoted, run, entry.data_version)
    write_json(root / PROMOTIONS_FILE, {**_records(root), model: asdict(record)})
    return record


def promotion(root: Path, model: str) -> Promotion | None:
    """The promoted version of `model` in the profile at `root`, None where nothing was promoted."""
    record = _records(root).get(model)
    return Promotion(**record) if record else None


def _records(root: Path) -> dict[str, dict[str, str]]:
    try:
        records: dict[str, dict[str, str]] = json.loads((root / PROMOTIONS_FILE).read_text())
    except FileNotFoundError:
        return {}
    return records
