"""The vocabulary of the lineage: what a stage is, what one run of it reads and writes, and how runs follow from one another.

A `StageSpec` is a kind of work ("captions"); a `StageItem` is one run of it ("captions of bucket 0 of COCO"): one entry of `dvc.yaml`,
one partition of a Dagster asset, one call of the stage function. Edges are never written down: an item depends on every item
that writes a path it reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from rlip_assets.storage.errors import ParameterError

MANIFEST_NAME = "manifest.json"
PROVENANCE_FOLDER = "provenance"


@dataclass(frozen=True)
class StageItem:
    """One run of a stage. All paths are POSIX strings relative to the profile's root.

    Attributes:
        inputs: logical name -> file or folder that another item writes, or that is shipped; a dependency in DVC.
        outputs: logical name -> file or folder this item writes; a path with a suffix is a file.
        untracked: logical name -> path that is read but is too large to be hashed (a raw dataset); its manifest is tracked instead.
        params: dotted keys of `params.yaml` that the result depends on.
        param_files: further parameter files, relative to the project's root -> their keys.
        processes: processes that share the run; more than one are started by torchrun, where the stage is `distributed`.
    """

    stage: str
    partition: str | None
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    params: tuple[str, ...] = ()
    param_files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    untracked: Mapping[str, str] = field(default_factory=dict)
    processes: int = 1

    @property
    def address(self) -> str:
        """The name of the item in `dvc.yaml` and on the command line: `captions@coco-0`, or `report` where there are no partitions."""
        return self.stage if self.partition is None else f"{self.stage}@{self.partition}"

    @property
    def provenance(self) -> str:
        """The file of the item's provenance, on which nothing depends."""
        return f"{PROVENANCE_FOLDER}/{self.address}.json"

    @property
    def manifest(self) -> str:
        """The file with figures, input hashes and parameters: inside the first output folder, else beside the first output file."""
        for path in self.outputs.values():
            if not is_file_path(path):
                return f"{path}/{MANIFEST_NAME}"
        return str(PurePosixPath(next(iter(self.outputs.values()))).parent / MANIFEST_NAME)


@dataclass(frozen=True)
class StageSpec:
    """One kind of work.

    Attributes:
        function: where the stage function lives, as `module:name`; imported only when it runs.
        torch: whether running it imports torch (such stages are bounded by memory and by `pool`).
        tracked: whether each run is a run in MLflow too.
        measures: input whose maker's MLflow run receives the figures as well, so that a model and its score stand in one row.
        distributed: whether several processes may share a run.
        pool: Dagster concurrency pool that a run takes a slot of.
        group, owners, kinds: how the asset is shown in Dagster.
        metrics, plots: files inside the outputs that `dvc metrics` and `dvc plots` show: paths, and DVC's plot definitions by name.
    """

    name: str
    function: str
    description: str
    items: tuple[StageItem, ...]
    group: str
    torch: bool = False
    distributed: bool = False
    tracked: bool = False
    measures: str | None = None
    pool: str | None = None
    owners: tuple[str, ...] = ("team:rlip",)
    kinds: tuple[str, ...] = ("python",)
    metrics: tuple[str, ...] = ()
    plots: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def partitions(self) -> tuple[str, ...]:
        """Partition keys in order; empty for a stage without partitions."""
        return tuple(item.partition for item in self.items if item.partition is not None)

    @property
    def module(self) -> str:
        """Module of the stage function."""
        return self.function.partition(":")[0]


class Registry:
    """All stages of one profile, with the graph that their paths imply.

    Raises:
        ValueError: two items write the same path, or items depend on each other in a circle.
    """

    def __init__(self, specs: Iterable[StageSpec]) -> None:
        self.specs: dict[str, StageSpec] = {spec.name: spec for spec in specs}
        self._items = {item.address: item for spec in self.specs.values() for item in spec.items}
        self._writers: dict[str, str] = {}
        for item in self._items.values():
            for path in item.outputs.values():
                if path in self._writers:
                    raise ValueError(f"{item.address} and {self._writers[path]} both write {path}")
                self._writers[path] = item.address
        self._number = {path: number for number, path in enumerate(self._writers)}
        self._below: dict[str, list[str]] = {}
        for path in self._writers:
            for folder in _with_parents(path):
                self._below.setdefault(folder, []).append(path)

    def spec(self, name: str) -> StageSpec:
        """Return the stage called `name`; ParameterError names the stages there are."""
        try:
            return self.specs[name]
        except KeyError:
            raise ParameterError(f"There is no stage '{name}'; the stages are {', '.join(self.specs)}") from None

    def item(self, name: str, partition: str | None = None) -> StageItem:
        """Return the item of stage `name` and `partition`; ParameterError names the partitions there are."""
        spec = self.spec(name)
        for item in spec.items:
            if item.partition == partition:
                return item
        if not spec.partitions:
            raise ParameterError(f"Stage '{name}' has no partitions; leave out --partition {partition}")
        given = "needs a partition" if partition is None else f"has no partition '{partition}'"
        raise ParameterError(f"Stage '{name}' {given}; choose one of {', '.join(spec.partitions)} with --partition")

    def at(self, address: str) -> StageItem:
        """Return the item with this `address` (KeyError if there is none)."""
        return self._items[address]

    def items(self) -> Iterator[StageItem]:
        """Yield every item, in the order in which the stages were declared."""
        return iter(self._items.values())

    def writers(self, path: str) -> tuple[str, ...]:
        """Addresses of the items that write `path`, a part of it or a folder around it."""
        around = [folder for folder in _with_parents(path) if folder in self._writers]
        outputs = sorted({*around, *self._below.get(str(PurePosixPath(path)), ())}, key=self._number.__getitem__)
        return tuple(dict.fromkeys(self._writers[output] for output in outputs))

    @cached_property
    def parents(self) -> dict[str, tuple[str, ...]]:
        """Address of each item -> addresses of the items that write what it reads."""
        return {
            item.address: tuple(dict.fromkeys(writer for path in item.inputs.values() for writer in self.writers(path)))
            for item in self._items.values()
        }

    @cached_property
    def stage_edges(self) -> frozenset[tuple[str, str]]:
        """(upstream stage, downstream stage) pairs of the graph of stages."""
        return frozenset(
            (self._items[parent].stage, self._items[child].stage)
            for child, parents in self.parents.items()
            for parent in parents
        )

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Addresses so that parents come before children; ties keep the order of declaration."""
        done: dict[str, None] = {}
        waiting = list(self._items)
        while waiting:
            ready = [address for address in waiting if all(parent in done for parent in self.parents[address])]
            if not ready:
                raise ValueError(f"these stages depend on each other in a circle: {', '.join(waiting)}")
            done.update(dict.fromkeys(ready))
            waiting = [address for address in waiting if address not in done]
        return tuple(done)

    def downstream(self, addresses: Iterable[str]) -> set[str]:
        """`addresses` and everything that follows from them."""
        found = set(addresses)
        for address in self.order:
            if any(parent in found for parent in self.parents[address]):
                found.add(address)
        return found


def is_file_path(path: str) -> bool:
    """Return whether an output path of the registry names a file (it has a suffix) and not a folder."""
    return PurePosixPath(path).suffix in {".json", ".parquet", ".md", ".html"}


def _with_parents(path: str) -> list[str]:
    """Return a POSIX path and the folders around it."""
    whole = PurePosixPath(path)
    return [str(whole), *(str(folder) for folder in whole.parents if folder.name)]


def overlaps(first: str, second: str) -> bool:
    """Return whether one POSIX path is, contains or lies within the other."""
    a, b = PurePosixPath(first), PurePosixPath(second)
    return a == b or a in b.parents or b in a.parents
