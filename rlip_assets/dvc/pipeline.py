"""`dvc.yaml`, written from the registry.

Stages with partitions become `foreach` groups, so that an item is addressed as `stage@partition`. DVC interpolates single paths, not
lists: a group has as many path slots as its item with the most, and an item with fewer repeats its last one, which DVC accepts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import yaml

from rlip_assets.lineage.spec import Registry, StageItem, StageSpec
from rlip_assets.lineage.versions import VERSIONS_FILE

HEADER = "# Written by `rlip dvc-yaml` from rlip_assets/lineage/registry.py; do not edit by hand.\n"


def render_dvc_yaml(registry: Registry, project: str = ".") -> str:
    """Return the text of the `dvc.yaml` of a profile; `project` is the path from its root to the project's root."""
    stages = {spec.name: _stage(spec, PurePosixPath(project)) for spec in registry.specs.values()}
    return HEADER + yaml.dump({"stages": stages}, Dumper=_PlainDumper, sort_keys=False, width=160)


class _PlainDumper(yaml.SafeDumper):
    """Writes repeated values out instead of using anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


@dataclass
class _Column:
    """One place in a template: its name and the value of each item, by partition."""

    name: str
    values: dict[str, str]

    def template(self, slots: dict[str, dict[str, str]]) -> str:
        """Return the text of the place; values that do not follow from the partition's key are put into `slots`."""
        distinct = set(self.values.values())
        if len(distinct) == 1:
            return distinct.pop()
        keyed = {value.replace(key, "${key}") for key, value in self.values.items()}
        if len(keyed) == 1:
            return keyed.pop()
        for key, value in self.values.items():
            slots[key][self.name] = value
        return f"${{item.{self.name}}}"


@dataclass
class _Lists:
    """Paths and parameters of one entry of `dvc.yaml`, named so that a template can refer to them."""

    deps: dict[str, str]
    outs: dict[str, str]
    params: dict[str, str]
    param_files: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, item: StageItem, spec: StageSpec, project: PurePosixPath) -> _Lists:
        files = {str(project / file): _numbered(keys) for file, keys in item.param_files.items()}
        files[str(project / VERSIONS_FILE)] = _numbered((f"{spec.name}.version",))
        outs = {**item.outputs, "provenance": item.provenance}
        return cls(_named(item.inputs), _named(outs), _numbered(item.params), files)


def _named(paths: Any) -> dict[str, str]:
    return {re.sub(r"\W", "_", name): path for name, path in dict(paths).items()}


def _numbered(keys: tuple[str, ...]) -> dict[str, str]:
    return {f"param_{i}": key for i, key in enumerate(keys)}


def _columns(lists: dict[str, dict[str, str]]) -> list[_Column]:
    """Align the lists of all items (by partition) under the names of the longest; shorter ones repeat their last value."""
    names = max((list(named) for named in lists.values()), key=len)
    return [
        _Column(name, {key: named.get(name) or list(named.values())[-1] for key, named in lists.items()})
        for name in names
    ]


def _stage(spec: StageSpec, project: PurePosixPath) -> dict[str, Any]:
    lists = {str(item.partition): _Lists.of(item, spec, project) for item in spec.items}
    slots: dict[str, dict[str, str]] = {key: {} for key in lists}

    def templates(part: dict[str, dict[str, str]]) -> list[str]:
        return list(dict.fromkeys(column.template(slots) for column in _columns(part)))

    files = list(dict.fromkeys(file for one in lists.values() for file in one.param_files))
    params: list[Any] = templates({key: one.params for key, one in lists.items()})
    for file in files:
        params.append({file: templates({key: one.param_files[file] for key, one in lists.items()})})
    definition: dict[str, Any] = {
        "desc": spec.description,
        "cmd": f"rlip stage {spec.name}" + (" --partition ${key}" if spec.partitions else ""),
        "deps": templates({key: one.deps for key, one in lists.items()}),
        "params": params,
        "outs": templates({key: one.outs for key, one in lists.items()}),
    }
    definition = {name: value for name, value in definition.items() if value}
    return {"foreach": slots, "do": definition} if spec.partitions else definition
