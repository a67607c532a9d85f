"""`dvc.yaml`, written from the registry.

Stages with partitions become `foreach` groups, so that an item is addressed as `stage@partition`. What does not follow from the
partition's key stands in its entry under a name. DVC interpolates single paths, not lists: an item with fewer inputs than its
fellows repeats its last one under their names, which DVC takes as one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

from rlip_assets.lineage.spec import Registry, StageItem, StageSpec
from rlip_assets.lineage.versions import VERSIONS_FILE

HEADER = "# Written by `rlip dvc-yaml` from rlip_assets/lineage/registry.py; do not edit by hand.\n"
CHECKPOINT = "checkpoint"
"""Name of the output that is a model; `dvc.yaml` lists each as an artifact."""


def render_dvc_yaml(registry: Registry, project: str = ".") -> str:
    """Return the text of the `dvc.yaml` of a profile; `project` is the path from its root to the project's root."""
    specs = registry.specs.values()
    content = {
        "stages": {spec.name: _stage(spec, PurePosixPath(project)) for spec in specs},
        "metrics": [path for spec in specs for path in spec.metrics],
        "plots": [{name: dict(plot)} for spec in specs for name, plot in spec.plots.items()],
        "artifacts": {name: model for spec in specs for name, model in _models(spec).items()},
    }
    content = {name: value for name, value in content.items() if value}
    return HEADER + yaml.dump(content, Dumper=_PlainDumper, sort_keys=False, width=160)


class _PlainDumper(yaml.SafeDumper):
    """Writes repeated values out instead of using anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _models(spec: StageSpec) -> dict[str, dict[str, Any]]:
    """Return the checkpoints of a stage as DVC's artifacts, whose names have no underscores."""
    return {
        re.sub(r"\W|_", "-", item.address): {
            "path": item.outputs[CHECKPOINT],
            "type": "model",
            "desc": spec.description,
            "labels": [spec.group],
        }
        for item in spec.items
        if CHECKPOINT in item.outputs
    }


@dataclass
class _Column:
    """One place in a template: its name and the value of each item, by partition."""

    name: str
    values: dict[str, str]

    def template(self, entries: dict[str, dict[str, str]]) -> str:
        """Return the text of the place; values that do not follow from the partition's key are put into `entries`."""
        distinct = set(self.values.values())
        if len(distinct) == 1:
            return distinct.pop()
        keyed = {value.replace(key, "${key}") for key, value in self.values.items()}
        if len(keyed) == 1:
            return keyed.pop()
        for key, value in self.values.items():
            entries[key][self.name] = value
        return f"${{item.{self.name}}}"


def _columns(items: Mapping[str, Mapping[str, str]]) -> list[_Column]:
    """Align what the items have (partition -> name -> value) under all names; an item without one repeats its last value."""
    names = dict.fromkeys(name for named in items.values() for name in named)
    return [
        _Column(name, {key: named.get(name) or list(named.values())[-1] for key, named in items.items()})
        for name in names
    ]


def _stage(spec: StageSpec, project: PurePosixPath) -> dict[str, Any]:
    items = {str(item.partition): item for item in spec.items}
    entries: dict[str, dict[str, str]] = {key: {} for key in items}

    def templates(part: Mapping[str, Mapping[str, str]]) -> list[str]:
        return list(dict.fromkeys(column.template(entries) for column in _columns(part)))

    params: list[Any] = templates(_named_params({key: item.params for key, item in items.items()}))
    for file in dict.fromkeys(file for item in items.values() for file in item.param_files):
        keys = {key: item.param_files[file] for key, item in items.items()}
        params.append({str(project / file): templates(_named_params(keys))})
    params.append({str(project / VERSIONS_FILE): [f"{spec.name}.version"]})
    shown = {"group": spec.group, "owners": list(spec.owners), "kinds": list(spec.kinds), "pool": spec.pool}
    definition: dict[str, Any] = {
        "desc": spec.description,
        "cmd": f"rlip stage {spec.name}" + (" --partition ${key}" if spec.partitions else ""),
        "deps": templates({key: _named_paths(item.inputs) for key, item in items.items()}),
        "params": params,
        "outs": templates({key: _outputs(item) for key, item in items.items()}),
        "meta": {name: value for name, value in shown.items() if value},
    }
    definition = {name: value for name, value in definition.items() if value}
    return {"foreach": entries, "do": definition} if spec.partitions else definition


def _outputs(item: StageItem) -> dict[str, str]:
    return _named_paths({**item.outputs, "provenance": item.provenance})


def _named_paths(paths: Mapping[str, str]) -> dict[str, str]:
    return {re.sub(r"\W", "_", name): path for name, path in paths.items()}


def _named_params(items: Mapping[str, tuple[str, ...]]) -> dict[str, dict[str, str]]:
    """Name the keys of each item: those of all items by themselves, others by the section of `params.yaml` that they lie in.

    Raises:
        ValueError: two keys of an item have the same name.
    """
    common = set.intersection(*(set(keys) for keys in items.values()))
    named = {}
    for partition, keys in items.items():
        named[partition] = {key if key in common else key.partition(".")[0]: key for key in keys}
        if len(named[partition]) < len(keys):
            raise ValueError(f"item '{partition}' has two parameters of one section that other items lack: {keys}")
    return named
