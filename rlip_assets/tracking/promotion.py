"""Promotion: a person says that a registered model is good enough to make labels with, and a gate agrees.

MLflow keeps the alias; a small file in the profile keeps the model's hash in DVC, so that sensors need not import a tracking store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlip_assets.dvc.lock import DvcLock
from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.params.promotion import PromotionParams
from rlip_assets.lineage.provenance import read_provenance
from rlip_assets.lineage.registry import load_registry
from rlip_assets.lineage.runner import read_manifest
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.files import read_object, write_json

PROMOTIONS_FILE = "data/promoted.json"


@dataclass(frozen=True)
class Promotion:
    """One promoted model: its version in MLflow, its hash in DVC and its score at the gate."""

    model: str
    version: str
    run: str
    data_version: str
    score: float | None = None


def promote(root: Path, model: str, version: str | None = None) -> Promotion:
    """Promote a version of `model`, which is the name of the stage that trains it.

    Raises:
        InputError: no such model or version, a version that is not the one in the tree, or one that does not pass the gate.
    """
    from rlip_assets.tracking.store import promote_model

    registry = load_registry(root)
    if model not in registry.specs or registry.spec(model).partitions or not registry.spec(model).torch:
        raise InputError(f"'{model}' is no model that can be promoted; promote r_tagger, whose labels depend on it")
    item = registry.item(model)
    entry = DvcLock.read(root).get(item.address)
    if entry is None:
        raise InputError(
            f"{root / 'dvc.lock'} has no {item.address}; train it with `dvc repro --single-item {item.address}`"
        )
    manifest, params = read_manifest(root, item), load_params(root / "params.yaml").promotion
    passed, words = gate(manifest, params, promotion(root, model))
    if not passed:
        raise InputError(f"{model} is not promoted: {words}; train a better one, or change `promotion` in params.yaml")
    promoted, run = promote_model(model, version, read_provenance(root, item).get("mlflow_run"))
    record = Promotion(model, promoted, run, entry.data_version, score_of(manifest, params))
    records = {**_promotions(root), model: record}
    write_json(root / PROMOTIONS_FILE, {name: asdict(each) for name, each in records.items()})
    return record


def gate(manifest: Mapping[str, Any] | None, params: PromotionParams, champion: Promotion | None) -> tuple[bool, str]:
    """Return whether a model may be promoted, and why.

    Args:
        manifest: of the model's stage; None where there is no model.
        champion: what is promoted now, None where nothing is.
    """
    score = score_of(manifest, params)
    if score is None:
        return False, f"its manifest has no figure '{params.metric}'"
    words = f"{params.metric} {score:.3f}, floor {params.floor:.3f}"
    if champion is None or champion.score is None:
        return score >= params.floor, words
    words += f", promoted version {champion.version} {champion.score:.3f}, tolerance {params.tolerance:.3f}"
    return score >= max(params.floor, champion.score - params.tolerance), words


def score_of(manifest: Mapping[str, Any] | None, params: PromotionParams) -> float | None:
    """Return the figure that the gate looks at, None where the manifest lacks it."""
    value = (manifest or {}).get("figures", {}).get(params.metric)
    return float(value) if isinstance(value, int | float) else None


def promotion(root: Path, model: str) -> Promotion | None:
    """Return the promoted version of `model` in the profile at `root`, None where nothing was promoted.

    Raises:
        DataError: the file of promotions is damaged.
    """
    return _promotions(root).get(model)


def promoted_hashes(root: Path) -> set[str]:
    """Return the hashes in DVC of the models that are promoted in the profile at `root`; DataError as for `promotion`."""
    return {record.data_version for record in _promotions(root).values()}


def _promotions(root: Path) -> dict[str, Promotion]:
    path, remedy = root / PROMOTIONS_FILE, "remove it and promote again with `rlip promote`"
    try:
        return {model: Promotion(**record) for model, record in read_object(path, remedy).items()}
    except FileNotFoundError:
        return {}
    except TypeError as error:
        raise DataError(f"{path} does not list promotions ({error}); {remedy}") from None
