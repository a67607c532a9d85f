"""Runs one stage item: checks its inputs, calls its function on empty outputs, and renames the outputs into place.

What the runner adds to a stage function:

* inputs that exist and are hashed, and a lock, so that two runs of one item never meet;
* a work folder keyed by inputs, parameters and version, which survives a kill (shards inside it are the stage's business);
* `manifest.json` in each output folder: what follows from inputs and parameters alone;
* `provenance/ITEM.json`: who made it, when, where and how long it took, on which nothing depends.
"""

from __future__ import annotations

import importlib
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rlip_assets.lineage.context import NullLog, StageContext, StageFunction
from rlip_assets.lineage.history import remember
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.params.placeholders import is_placeholder
from rlip_assets.lineage.profiles import PARAMS_FILE, profile_option
from rlip_assets.lineage.provenance import Clock, describe_run, read_provenance
from rlip_assets.lineage.spec import MANIFEST_NAME, Registry, StageItem, StageSpec, is_file_path
from rlip_assets.lineage.stage_run import WORK_FOLDER, StageRun, filled_area, filled_path
from rlip_assets.lineage.torchrun import process_index
from rlip_assets.lineage.versions import stage_version
from rlip_assets.storage.errors import BusyError, DataError, InputError, ParameterError
from rlip_assets.storage.files import put_in_place, read_object, sha256_file, sha256_folder, write_json

MANIFEST_SCHEMA = 1

LogFactory = Callable[[StageRun], Any]


def run_stage(
    registry: Registry,
    params: Params,
    root: Path,
    name: str,
    partition: str | None,
    open_log: LogFactory,
    version: int | None = None,
) -> dict[str, Any]:
    """Run one item in the profile whose root folder is `root`.

    Args:
        open_log: context manager factory that yields the `StageLog` of this run.
        version: the stage's version; by default the declared one.

    Returns:
        The figures that the stage returned.

    Raises:
        RlipError: an unknown stage or partition, a missing input, another run of the same item, or what the stage itself reports.
    """
    spec, item = registry.spec(name), registry.item(name, partition)
    version = stage_version(name) if version is None else version
    if number := process_index():
        _help(registry, params, root, item, version, number)
        return {}
    with _only_run_of(item, root):
        inputs, run, work = _prepare(registry, params, root, item, version)
        with _empty_outputs(item, root) as outputs, open_log(run) as log:
            clock = Clock.start()
            function = load_function(spec.function)
            context = StageContext(spec.name, partition, params, inputs, outputs, work, log)
            clock.begin_work()
            figures: dict[str, Any] = _plain(function(context) or {}, f"figures of {item.address}")
            clock.end_work()
            log.metrics({key: value for key, value in flatten(figures).items() if isinstance(value, int | float)})
            _check_outputs(spec, outputs)
            manifest = {
                "schema": MANIFEST_SCHEMA,
                "stage": spec.name,
                "partition": partition,
                "version": run.version,
                "inputs": run.inputs,
                "params": run.params,
                "figures": figures,
            }
            for path in outputs.values():
                if path.is_dir():
                    write_json(path / MANIFEST_NAME, manifest)
                log.artifact(path)
            for key, path in outputs.items():
                put_in_place(path, root / item.outputs[key])
            write_json(root / item.provenance, describe_run(run, clock, log) | {"observed": context.observed})
            remember(root, item.address, manifest)
        shutil.rmtree(work, ignore_errors=True)
    return figures


def _prepare(
    registry: Registry, params: Params, root: Path, item: StageItem, version: int
) -> tuple[dict[str, Path], StageRun, Path]:
    """Inputs of a run, what its result follows from, and the work folder that belongs to both."""
    spec = registry.spec(item.stage)
    inputs = _existing_inputs(registry, item, root)
    run = StageRun(
        spec=spec,
        item=item,
        root=root,
        version=version,
        inputs={key: _digest(path) for key, path in inputs.items() if key not in item.untracked},
        params=declared_params(params, item),
        measured_run=_measured_run(registry, spec, item, root),
    )
    work = root / WORK_FOLDER / spec.name / run.digest[:16]
    work.mkdir(parents=True, exist_ok=True)
    return inputs, run, work


def _help(registry: Registry, params: Params, root: Path, item: StageItem, version: int, number: int) -> None:
    """Run as a rank other than the first: its outputs are discarded."""
    spec = registry.spec(item.stage)
    if not spec.distributed:
        raise ParameterError(f"Stage '{spec.name}' is not shared between processes; start it without torchrun")
    inputs, _, work = _prepare(registry, params, root, item, version)
    with _empty_outputs(item, root, number) as outputs:
        context = StageContext(spec.name, item.partition, params, inputs, outputs, work, NullLog())
        load_function(spec.function)(context)


def load_function(target: str) -> StageFunction:
    """Return the function named `module:name`; imported here and nowhere else."""
    module, _, name = target.partition(":")
    function: StageFunction = getattr(importlib.import_module(module), name)
    return function


def declared_params(params: Params, item: StageItem) -> dict[str, Any]:
    """Dotted key -> JSON value of every parameter of `params.yaml` that the item declares."""
    content = params.model_dump(mode="json")
    values = {}
    for key in item.params:
        value: Any = content
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                raise ParameterError(f"{item.address} declares the parameter '{key}', which params.yaml does not have")
            value = value[part]
        values[key] = value
    return values


@contextmanager
def _only_run_of(item: StageItem, root: Path) -> Iterator[None]:
    lock = root / WORK_FOLDER / "locks" / f"{item.address}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout:
        raise BusyError(f"{item.address} is being run by another process; wait for it to end or end it") from None


def _existing_inputs(registry: Registry, item: StageItem, root: Path) -> dict[str, Path]:
    """Logical name -> path of every input, tracked or not; InputError says how to get a missing one."""
    paths = {name: root / path for name, path in {**item.inputs, **item.untracked}.items()}
    for name, path in paths.items():
        if path.exists():
            continue
        if is_placeholder(str(path)):
            raise ParameterError(
                f"{item.address} reads {path}, a placeholder: set it in {root / PARAMS_FILE} (docs/real_data.md), then run "
                f"`rlip dvc-yaml{profile_option(root)}`"
            )
        if name in item.untracked:
            raise InputError(
                f"{item.address} reads {path}, which does not exist; put the dataset there or set its root in params.yaml"
            )
        makers = registry.writers(item.inputs[name])
        remedy = (
            f"make it with `dvc repro --single-item {makers[0]}`"
            if makers
            else f"correct its path in params.yaml and run `rlip dvc-yaml{profile_option(root)}`, or restore it if it is shipped "
            "with the project"
        )
        raise InputError(f"{item.address} reads {path}, which does not exist; {remedy}")
    return paths


def _digest(path: Path) -> str:
    return sha256_folder(path) if path.is_dir() else sha256_file(path)


@contextmanager
def _empty_outputs(item: StageItem, root: Path, process: int = 0) -> Iterator[dict[str, Path]]:
    """Logical name -> an empty folder, or a path that does not exist, on the file system of the final outputs."""
    area = filled_area(item, root, process)
    shutil.rmtree(area, ignore_errors=True)
    outputs = {name: filled_path(item, root, name, process) for name in item.outputs}
    for name, path in outputs.items():
        (path.parent if is_file_path(item.outputs[name]) else path).mkdir(parents=True)
    try:
        yield outputs
    finally:
        shutil.rmtree(area, ignore_errors=True)


def _measured_run(registry: Registry, spec: StageSpec, item: StageItem, root: Path) -> str | None:
    if spec.measures is None:
        return None
    maker = registry.at(registry.writers(item.inputs[spec.measures])[0])
    provenance = read_provenance(root, maker)
    run: str | None = provenance.get("mlflow_run") or provenance.get("tracking_key")
    return run


def _check_outputs(spec: StageSpec, outputs: Mapping[str, Path]) -> None:
    for name, path in outputs.items():
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            raise DataError(
                f"Stage '{spec.name}' ended without writing its output '{name}'; {spec.function} must fill ctx.outputs['{name}']"
            )
        if path.is_dir() and (path / MANIFEST_NAME).exists():
            raise DataError(
                f"Stage '{spec.name}' wrote {MANIFEST_NAME} into '{name}'; that file is the runner's, return figures instead"
            )


def _plain(value: Any, where: str) -> Any:
    """`value` as JSON types (numpy numbers become Python numbers); raise DataError for NaN, infinity and other types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, f"{where}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, f"{where}[{i}]") for i, entry in enumerate(value)]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"{where} is {value}; a stage returns null for what it could not measure")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise DataError(f"{where} is a {type(value).__name__}; figures are numbers, texts, lists and mappings")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_manifest(root: Path, item: StageItem) -> dict[str, Any] | None:
    """Return the manifest of an item's outputs, or None where they do not exist."""
    try:
        return read_object(root / item.manifest, f"make it again with `dvc repro --force --single-item {item.address}`")
    except FileNotFoundError:
        return None
