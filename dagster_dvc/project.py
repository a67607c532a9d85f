"""A DVC project as data, as DVC itself resolves it: templates, `foreach`, `matrix`, `vars`, several `dvc.yaml`, and `.dvc` files.

An `Item` is what DVC calls a stage, one entry of a `dvc.lock`. A `Stage` is what a person wrote: one item, or all items of a `foreach`
or `matrix`.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

REPOSITORY_LOCK = ".dvc/tmp/lock"
"""Held by DVC while it writes a lock file: through flock, or with `core.hardlink_lock` by a second name of the file."""
LOCK_FILE = "dvc.lock"
_PAUSE, _LONGEST_WAIT, _LONGEST = 0.2, 60.0, 500
_NO_PARTITION_KEY = re.compile(r"\.\.\.|[\x00-\x1f]")  # refused by Dagster


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
        outs: those that are local files or folders.
        params: parameter file -> dotted key, or key of a file that is taken whole -> present value.
        metrics, plots: what DVC shows as such and the item writes; metrics that `dvc.yaml` lists beside its stages too.
        parents: addresses of the items that write what this one reads.
    """

    address: str
    stage: str
    key: str | None
    folder: str
    directory: str
    command: str | None
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
    def group(self) -> tuple[str, str, bool]:
        """What the items of one stage have in common: folder, name, and whether it is a `.dvc` file."""
        return self.folder, self.stage, self.command is None

    @property
    def record(self) -> str:
        """Path of the file in which DVC records the item."""
        return self.address if self.command is None else Path(self.folder, LOCK_FILE).as_posix()

    @property
    def lock_key(self) -> str:
        """Name of the item in its `dvc.lock`."""
        return self.stage if self.key is None else f"{self.stage}@{self.key}"


@dataclass(frozen=True)
class Stage:
    """Items that one asset shows, as partitions or as one; `path` has folders, the stage, and the key of an item that stands alone."""

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
        """Return the item of a partition; ValueError for an unknown one."""
        return self.items[self.partitions.index(str(partition)) if self.partitioned else 0]


@dataclass(frozen=True)
class DvcProject:
    """The items of a DVC project, in an order in which they can be made."""

    root: Path
    items: tuple[Item, ...]

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """Stages in order. Items of one `foreach` or `matrix` are partitions unless they depend on each other or Dagster refuses a key.

        Where two stages would have the same path, DVC's addresses tell them apart.
        """
        apart, stages = _in_circles(self.items), list[Stage]()
        for group in dict.fromkeys(item.group for item in self.items):
            items, path = tuple(item for item in self.items if item.group == group), _parts(*group[:2])
            if group in apart or any(item.key is None or _NO_PARTITION_KEY.search(item.key) for item in items):
                stages += [Stage((*path, *_parts(item.key or "")), (item,), False) for item in items]
            else:
                stages.append(Stage(path, items, True))
        times = Counter(stage.path for stage in stages)
        return tuple(
            stage
            if stage.partitioned or times[stage.path] == 1
            else replace(stage, path=(*stage.path[:-1], stage.items[0].address.rpartition("/")[2]))
            for stage in stages
        )

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


def _parts(*texts: str) -> tuple[str, ...]:
    return tuple(part for text in texts for part in text.split("/") if part)


def _in_circles(items: Iterable[Item]) -> set[tuple[str, str, bool]]:
    """Return the groups that depend on themselves, so that an asset of each would be its own ancestor."""
    import networkx as nx

    of = {item.address: item.group for item in items}
    graph = nx.DiGraph((of[parent], of[item.address]) for item in items for parent in item.parents)
    circles = {group for part in nx.strongly_connected_components(graph) if len(part) > 1 for group in part}
    return circles | {group for group in graph if graph.has_edge(group, group)}


def read_project(root: Path) -> DvcProject:
    """Read the DVC project that `root` belongs to; while DVC writes a lock file there, wait until it is whole.

    Where there is no project, or DVC refuses it, a DvcProjectError says so in DVC's words.
    """
    root, quiet, deadline = root.resolve(), 0, time.monotonic() + _LONGEST_WAIT
    while True:
        quiet = 0 if repository_busy(root) and time.monotonic() < deadline else quiet + 1
        try:
            return _read(root)
        except DvcProjectError:
            if quiet > 1:
                raise
            time.sleep(_PAUSE)


def repository_busy(root: Path) -> bool:
    """Return whether a DVC process holds the repository of a folder, as it does while it writes a lock file."""
    base = next((folder for folder in (root, *root.parents) if (folder / ".dvc").is_dir()), root)
    try:
        with (base / REPOSITORY_LOCK).open() as held:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return os.fstat(held.fileno()).st_nlink > 1
    except OSError as error:  # there is no such file where no DVC process has ever worked
        return isinstance(error, BlockingIOError)


@contextmanager
def _opened(root: Path) -> Iterator[Any]:
    """Open a project in DVC; what DVC refuses becomes one sentence."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            yield repo
    except (DvcException, OSError) as error:
        reason = getattr(error, "exc", error)  # a schema's says the key, a parser's line and column
        while reason.__cause__ is not None:
            reason = reason.__cause__
        sentence = " ".join((str(error) if reason is error else f"{error}: {reason}").split())[:_LONGEST]
        raise DvcProjectError(f"{root}: {sentence} (`dvc status` there says more)") from error


def changed_in_tree(project: DvcProject, items: Collection[Item]) -> set[str]:
    """Return the addresses of those items whose outputs are not as recorded; DVC remembers checksums of what has not changed since."""
    chosen = {item.address for item in items}
    with _opened(project.root) as repo:
        stages = {address: s for s in repo.index.stages if (address := _address(s, project.root)) in chosen}
        return {a for a, stage in stages.items() if any(out.changed_checksum() for out in stage.outs if _local(out))}


def _read(root: Path) -> DvcProject:
    import networkx as nx

    with _opened(root) as repo:
        root, index = Path(repo.root_dir), repo.index
        written = {stage: number for number, stage in enumerate(index.stages)}
        order = nx.lexicographical_topological_sort(index.graph.reverse(copy=False), key=written.__getitem__)
        listed = (os.path.join(os.path.dirname(file), path) for file, paths in index._metrics.items() for path in paths)
        metrics = {relative(os.path.normpath(path), root) for path in listed}
        present = _present_parameters(repo)
        items = tuple(_item(stage, index.graph, root, present, metrics) for stage in order)
    return DvcProject(root, items)


def _item(
    stage: Any, graph: Any, root: Path, present: Callable[[Any], dict[str, Any]], metrics: Collection[str]
) -> Item:
    from dvc.dependency import ParamsDependency

    source = not getattr(stage, "name", None)
    plain, at, key = (Path(stage.path).stem, "", "") if source else stage.name.partition("@")
    outs = {relative(out.fs_path, root): out for out in stage.outs if _local(out)}
    return Item(
        address=_address(stage, root),
        stage=plain,
        key=key if at else None,
        folder=relative(os.path.dirname(stage.path), root),
        directory=relative(stage.wdir, root),
        command=" && ".join(stage.cmd) if isinstance(stage.cmd, list) else stage.cmd,
        outs=tuple(outs),
        params={relative(d.fs_path, root): present(d) for d in stage.deps if isinstance(d, ParamsDependency)},
        description=stage.desc or next((out.annot.desc for out in outs.values() if out.annot.desc), None),
        meta=dict(stage.meta) if isinstance(stage.meta, Mapping) else {},
        frozen=bool(stage.frozen),
        always_changed=bool(stage.always_changed),
        metrics=tuple(path for path, out in outs.items() if out.metric)
        + tuple(path for path in sorted(metrics) if any(f"{path}/".startswith(f"{out}/") for out in outs)),
        plots=tuple(path for path, out in outs.items() if out.plot),
        parents=tuple(sorted(_address(parent, root) for parent in graph.successors(stage))),
    )


def _local(place: Any) -> bool:
    """Return whether an output or dependency is a file or folder of this machine: not a URL, not a dataset by name."""
    return bool(place.protocol == "local")


def _address(stage: Any, root: Path) -> str:
    """Return DVC's address of a stage as seen from the root."""
    file = relative(stage.path, root)
    name = getattr(stage, "name", None)
    return file if not name else name if file == "dvc.yaml" else f"{file}:{name}"


def _present_parameters(repo: Any) -> Callable[[Any], dict[str, Any]]:
    """Return a function from a parameter dependency to present values (all of a file where it names no keys) without missing ones."""
    from dvc.exceptions import DvcException
    from dvc.utils.serialize import load_path

    @cache
    def content(path: str) -> Any:
        with suppress(DvcException, OSError):
            return load_path(path, repo.fs)
        return {}

    def present(dependency: Any) -> dict[str, Any]:
        whole, keys = content(dependency.fs_path), dependency.params
        if not keys:
            return dict(whole) if isinstance(whole, Mapping) else {}
        return {name: value for key in keys for name, value in _at(whole, key).items()}

    return present


def _at(value: Any, key: str) -> dict[str, Any]:
    """Return the value at a dotted key, under the key; nothing where there is none."""
    for part in key.split("."):
        places = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
        found = [inner for name, inner in places if str(name) == part]
        if not found:
            return {}
        value = found[0]
    return {key: value}


def relative(path: str, root: Path) -> str:
    """Return a path relative to the root where it lies inside (empty for the root itself), else as it is."""
    inside = os.path.relpath(path, root)
    return path if inside.split("/")[0] == ".." else "" if inside == "." else inside
