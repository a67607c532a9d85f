"""Promotion: a person says that a registered model is good enough to be used, and a gate agrees.

MLflow keeps the alias `champion`; a small file in the profile keeps the model's hash in DVC, so that sensors need not import MLflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlip_assets.dvc.lock import DvcLock
from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.params.promotion import GateParams
from rlip_assets.lineage.profiles import profile_name
from rlip_assets.lineage.provenance import read_provenance
from rlip_assets.lineage.registry import load_registry
from rlip_assets.lineage.runner import read_manifest
from rlip_assets.lineage.spec import Registry, StageItem
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.files import read_object, write_json
from rlip_assets.tracking.references import TAGGER, model_name

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
    """Promote a version of `model`: the item that trains it, such as `finetune@hico_full`, or the name that it is registered under.

    Raises:
        InputError: no such model or version, a version that is not the one in the tree, or one that does not pass the gate.
    """
    from rlip_assets.tracking.models import promote_model

    registry, lock = load_registry(root), DvcLock.read(root)
    item, name = _trained_item(registry, root, model)
    entry = lock.get(item.address)
    if entry is None:
        raise InputError(
            f"{root / 'dvc.lock'} has no {item.address}; train it with `dvc repro --single-item {item.address}`"
        )
    manifest, params = judged_manifest(registry, root, item, lock), gate_params(root, item)
    if manifest is None:
        raise InputError(
            f"the manifest by which {item.address} is judged is not in {root}; bring it back with `dvc checkout` or `dvc repro`"
        )
    passed, words = gate(manifest, params, promotion(root, item.address))
    if not passed:
        raise InputError(
            f"{item.address} is not promoted: {words}; train a better one, or change `promotion` in params.yaml"
        )
    provenance = read_provenance(root, item)
    made_by = provenance.get("mlflow_run") or provenance.get("tracking_key")
    promoted, run = promote_model(name, version, made_by)
    record = Promotion(item.address, promoted, run, entry.data_version, score_of(manifest, params))
    records = {**_promotions(root), item.address: record}
    write_json(root / PROMOTIONS_FILE, {address: asdict(each) for address, each in records.items()})
    return record


def _trained_item(registry: Registry, root: Path, model: str) -> tuple[StageItem, str]:
    """Return the item that trains a model and the name that it is registered under; InputError names those there are."""
    trained = {item.address: item for item in registry.items() if "checkpoint" in item.outputs}
    names = {address: model_name(profile_name(root), item.stage, item.partition) for address, item in trained.items()}
    for address, name in names.items():
        if model in (address, name):
            return trained[address], name
    raise InputError(f"'{model}' is no model that can be promoted; the models are {', '.join(trained)}")


def gate_params(root: Path, item: StageItem) -> GateParams:
    """Return the gate that the model of an item must pass in the profile at `root`."""
    params = load_params(root / "params.yaml").promotion
    return params if item.stage == TAGGER else params.detectors


def judged_manifest(registry: Registry, root: Path, item: StageItem, lock: DvcLock) -> dict[str, Any] | None:
    """Return the manifest with the figures of a model: its own for the R-Tagger, for detectors that of their benchmark.

    Raises:
        InputError: the benchmark is not that of the model in the tree.
    """
    if item.stage == TAGGER:
        return read_manifest(root, item)
    predictions = item.outputs.get("predictions")
    benchmarks = [
        each for each in registry.items() if each.stage == "benchmark" and predictions in each.inputs.values()
    ]
    if predictions is None or not benchmarks:
        raise InputError(f"{item.address} is judged by no benchmark of this profile, so that no gate can open for it")
    benchmark = benchmarks[0]
    judged, made = lock.get(benchmark.address), lock.get(item.address)
    if judged is None or made is None or judged.deps.get(predictions) != made.outs.get(predictions):
        raise InputError(
            f"{benchmark.address} is not of the {item.address} in the tree; run `dvc repro --single-item {benchmark.address}`, then promote"
        )
    return read_manifest(root, benchmark)


def gate(manifest: Mapping[str, Any] | None, params: GateParams, champion: Promotion | None) -> tuple[bool, str]:
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


def score_of(manifest: Mapping[str, Any] | None, params: GateParams) -> float | None:
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
