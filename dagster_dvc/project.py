"""A DVC project as data, as DVC itself resolves it: templates, `foreach`, `matrix`, `vars`, several `dvc.yaml`, and `.dvc` files.

An `Item` is what DVC calls a stage, one entry of a `dvc.lock`. A `Stage` is what a person wrote: one item, or all items of a `foreach`
or `matrix`.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

REPOSITORY_LOCK = ".dvc/tmp/lock"
"""Held by DVC (through flock) while it writes a lock file."""
_PAUSE = 0.2


class DvcProjectError(Exception):
    """A folder is no DVC project, or DVC cannot read it."""


@dataclass(frozen=True)
class Item:
    """One run of a stage. All paths are POSIX strings relative to the project's root.

    Attributes:
        address: DVC's own, such as `train`, `prepare@a` or `sub/dvc.yaml:train`; of a `.dvc` file, its path.
        stage: name without the key of the item; of a `.dvc` file, its name without the suffix.
        key: what `foreach` or `matrix` calls the item, None elsewhere.
        folder: folder of its `dvc.yaml`, empty for the root.
        directory: folder that the paths of its lock entry are relative to.
        command: None for a `.dvc` file.
        params: parameter file -> dotted key -> present value.
        metrics, plots: those of `outs` that DVC shows as such.
        parents: addresses of the items that write what this one reads.
    """

    address: str
    stage: str
    key: str | None
    folder: str
    directory: str
    command: str | None
    deps: tuple[str, ...] = ()
    outs: tuple[str, ...] = ()
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    description: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    frozen: bool = False
    always_changed: bool = False
    metrics: tuple[str, ...] = ()
    plots: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()

    @property
    def lock_key(self) -> str:
        """Name of the item in its `dvc.lock`."""
        return self.stage if self.key is None else f"{self.stage}@{self.key}"


@dataclass(frozen=True)
class Stage:
    """Items that one asset shows: partitions where there are keys.

    Attributes:
        path: parts of its name: folders, the stage, and the key where an item stands alone.
        partitioned: whether the items are partitions of the asset.
    """

    path: tuple[str, ...]
    items: tuple[Item, ...]
    partitioned: bool

    @property
    def name(self) -> str:
        """Name of the stage as its `dvc.yaml` has it."""
        return self.items[0].stage

    @property
    def is_source(self) -> bool:
        """True for a `.dvc` file: data that no stage makes."""
        return self.items[0].command is None

    @property
    def partitions(self) -> tuple[str, ...]:
        """Partition keys in order; empty without partitions."""
        return tuple(str(item.key) for item in self.items) if self.partitioned else ()

    def item(self, partition: str | None) -> Item:
        """Return the item of a partition; KeyError for an unknown one."""
        if not self.partitioned:
            return self.items[0]
        return {str(item.key): item for item in self.items}[str(partition)]


@dataclass(frozen=True)
class DvcProject:
    """The items of a DVC project, in an order in which they can be made."""

    root: Path
    items: tuple[Item, ...]

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """Stages in order. Items of one `foreach` are partitions unless they depend on each other, directly or through other stages."""
        groups: dict[tuple[str, str], list[Item]] = {}
        for item in self.items:
            groups.setdefault((item.folder, item.stage), []).append(item)
        apart = _in_circles(groups, self.items)
        stages: list[Stage] = []
        for (folder, name), items in groups.items():
            path = (*(part for part in folder.split("/") if part), name)
            if any(item.key is None for item in items):
                stages += [Stage(path if item.key is None else (*path, item.key), (item,), False) for item in items]
            elif (folder, name) in apart:
                stages += [Stage((*path, str(item.key)), (item,), False) for item in items]
            else:
                stages.append(Stage(path, tuple(items), True))
        return tuple(stages)

    @cached_property
    def stage_of(self) -> Mapping[str, Stage]:
        """Address of an item -> its stage."""
        return {item.address: stage for stage in self.stages for item in stage.items}

    @cached_property
    def at(self) -> Mapping[str, Item]:
        """Address -> item."""
        return {item.address: item for item in self.items}

    def parents(self, stage: Stage) -> list[Stage]:
        """Return the stages whose items the items of `stage` read, in order."""
        found = {self.stage_of[parent].path: None for item in stage.items for parent in item.parents}
        return [other for other in self.stages if other.path in found]


def _in_circles(groups: Mapping[tuple[str, str], list[Item]], items: Iterable[Item]) -> set[tuple[str, str]]:
    """Return the groups that depend on themselves, so that an asset of each would be its own ancestor."""
    import networkx as nx

    of = {item.address: group for group, members in groups.items() for item in members}
    graph = nx.DiGraph((of[parent], of[item.address]) for item in items for parent in item.parents)
    circles = {group for part in nx.strongly_connected_components(graph) if len(part) > 1 for group in part}
    return circles | {group for group in graph if graph.has_edge(group, group)}


def read_project(root: Path) -> DvcProject:
    """Read the DVC project whose root folder is `root`; while DVC writes a lock file there, wait until it is whole.

    Raises:
        DvcProjectError: there is no project, or DVC refuses it; the sentence is DVC's.
    """
    from dvc.exceptions import DvcException

    root, quiet = root.resolve(), 0
    while True:
        quiet = 0 if repository_busy(root) else quiet + 1
        try:
            return _read(root)
        except DvcException as error:
            if quiet > 1:
                sentence = " ".join(str(error).split())
                raise DvcProjectError(f"{root}: {sentence} (`dvc status` there says more)") from error
            time.sleep(_PAUSE)


def repository_busy(root: Path) -> bool:
    """Return whether a DVC process holds the repository, as it does while it writes a lock file."""
    try:
        with (root / REPOSITORY_LOCK).open() as held:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no DVC process has ever worked here
        return False
    return False


def _read(root: Path) -> DvcProject:
    import networkx as nx
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        graph, written = repo.index.graph, {stage: number for number, stage in enumerate(repo.index.stages)}
        order = nx.lexicographical_topological_sort(graph.reverse(copy=False), key=written.__getitem__)
        parameters = _Parameters()
        items = tuple(_item(stage, graph, root, parameters) for stage in order)
    return DvcProject(root, items)


def _item(stage: Any, graph: Any, root: Path, parameters: _Parameters) -> Item:
    from dvc.dependency import ParamsDependency

    folder = _relative(Path(stage.path).parent.as_posix(), root)
    source = not getattr(stage, "name", None)
    plain, at, key = (Path(stage.path).stem, "", "") if source else stage.name.partition("@")
    read = [dep for dep in stage.deps if not isinstance(dep, ParamsDependency)]
    return Item(
        address=_address(stage, root),
        stage=plain,
        key=key if at else None,
        folder=folder,
        directory=_relative(stage.wdir, root),
        command=None if stage.cmd is None else _text(stage.cmd),
        deps=tuple(_relative(dep.fs_path, root) for dep in read if dep.protocol == "local"),
        outs=tuple(_relative(out.fs_path, root) for out in stage.outs),
        params={
            _relative(dep.fs_path, root): parameters.present(dep)
            for dep in stage.deps
            if isinstance(dep, ParamsDependency)
        },
        description=stage.desc,
        meta=dict(stage.meta or {}),
        frozen=bool(stage.frozen),
        always_changed=bool(stage.always_changed),
        metrics=tuple(_relative(out.fs_path, root) for out in stage.outs if out.metric),
        plots=tuple(_relative(out.fs_path, root) for out in stage.outs if out.plot),
        parents=tuple(sorted(_address(parent, root) for parent in graph.successors(stage))),
    )


def _address(stage: Any, root: Path) -> str:
    """Return DVC's address of a stage as seen from the root."""
    file = _relative(stage.path, root)
    name = getattr(stage, "name", None)
    return file if not name else name if file == "dvc.yaml" else f"{file}:{name}"


class _Parameters:
    """Parameter files of a project, each parsed once."""

    def __init__(self) -> None:
        self._files: dict[str, Any] = {}

    def present(self, dependency: Any) -> dict[str, Any]:
        """Return the present values of the parameters that a stage tracks (a whole file under ""); keys that are missing are left out."""
        content = self._content(dependency)
        if not dependency.params:
            return {"": content}
        found = {key: _at(content, key.split(".")) for key in dependency.params}
        return {key: value for key, value in found.items() if value is not None}

    def _content(self, dependency: Any) -> Any:
        from dvc.exceptions import DvcException
        from dvc.utils.serialize import load_path

        path = dependency.fs_path
        if path not in self._files:
            try:
                self._files[path] = load_path(path, dependency.repo.fs)
            except (DvcException, OSError):
                self._files[path] = {}
        return self._files[path]


def _at(content: Any, key: Sequence[str]) -> Any:
    for part in key:
        if isinstance(content, Mapping) and part in content:
            content = content[part]
        elif isinstance(content, list) and part.isdigit() and int(part) < len(content):
            content = content[int(part)]
        else:
            return None
    return content


def _text(command: str | Iterable[str]) -> str:
    return command if isinstance(command, str) else " && ".join(command)


def _relative(path: str, root: Path) -> str:
    """Return a path relative to the root where it lies inside (empty for the root itself), else as it is."""
    found = Path(path)
    try:
        inside = found.relative_to(root).as_posix()
    except ValueError:
        return found.as_posix()
    return "" if inside == "." else inside
