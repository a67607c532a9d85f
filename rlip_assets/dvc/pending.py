"""The items of a lineage that wait to be made, and which come next: those that most waits for, cheap ones of a stage together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rlip_assets.dvc.lock import DvcLock
from rlip_assets.lineage.provenance import read_provenance
from rlip_assets.lineage.spec import Registry, StageItem

_TRAINING_SECONDS, _TORCH_SECONDS, _OTHER_SECONDS = 240.0, 60.0, 4.0
"""Guesses for items that never ran: those of a training stage, of other stages with torch, and of the rest."""


class Pending:
    """The items that follow from changed ones and are not done yet.

    Args:
        changed: addresses of items that are out of date.
        neighbours: addresses of all items of an item's stage, in an order of which a batch is a part without gaps.
    """

    def __init__(
        self, registry: Registry, root: Path, changed: set[str], neighbours: Callable[[str], Sequence[str]]
    ) -> None:
        self._registry, self._root, self._changed, self._neighbours = registry, root, changed, neighbours
        reachable = registry.downstream(changed)
        self._waiting = [address for address in registry.order if address in reachable]
        self._running: set[str] = set()
        self._before = DvcLock.read(root)
        self._priority = critical_seconds(registry, root)
        self.total = len(self._waiting)
        self._skip_current()

    def __bool__(self) -> bool:
        """Return whether anything waits."""
        return bool(self._waiting)

    def take(self, free: int) -> tuple[str, ...]:
        """Return what to start now, empty if it has to wait: the ready item of the longest chain; with it, where its stage is cheap, its
        share of those beside it if `free` runs are begun."""
        ready = self._ready()
        if not ready:
            return ()
        first = max(ready, key=self._priority.__getitem__)
        stage = self._registry.at(first).stage
        beside = {address for address in ready if self._registry.at(address).stage == stage}
        most = 1 if self._registry.spec(stage).torch else -(-len(beside) // free)
        line = self._neighbours(first)
        start = end = line.index(first)
        while end - start + 1 < most and end + 1 < len(line) and line[end + 1] in beside:
            end += 1
        while end - start + 1 < most and start > 0 and line[start - 1] in beside:
            start -= 1
        batch = tuple(line[start : end + 1])
        self._waiting = [address for address in self._waiting if address not in batch]
        self._running |= set(batch)
        return batch

    def done(self, batch: Iterable[str]) -> None:
        """Note what has been made; items below it whose parents all wrote the same as before need not be."""
        self._running -= set(batch)
        self._skip_current()

    def _ready(self) -> list[str]:
        unfinished, parents = {*self._waiting, *self._running}, self._registry.parents
        return [address for address in self._waiting if not any(parent in unfinished for parent in parents[address])]

    def _skip_current(self) -> None:
        lock = DvcLock.read(self._root)
        while current := [address for address in self._ready() if self._is_current(address, lock)]:
            self._waiting = [address for address in self._waiting if address not in current]
            self.total -= len(current)

    def _is_current(self, address: str, lock: DvcLock) -> bool:
        if address in self._changed:
            return False
        versions = ((self._before.get(parent), lock.get(parent)) for parent in self._registry.parents[address])
        return all(old is not None and new is not None and old.outs == new.outs for old, new in versions)


def critical_seconds(registry: Registry, root: Path) -> dict[str, float]:
    """Return address -> seconds of the longest chain from its start to the end of the lineage, by the last known durations."""
    children: dict[str, list[str]] = {address: [] for address in registry.order}
    for child, parents in registry.parents.items():
        for parent in parents:
            children[parent].append(child)
    seconds: dict[str, float] = {}
    for address in reversed(registry.order):
        after = max((seconds[child] for child in children[address]), default=0.0)
        seconds[address] = _expected_seconds(registry, registry.at(address), root) + after
    return seconds


def _expected_seconds(registry: Registry, item: StageItem, root: Path) -> float:
    recorded = read_provenance(root, item).get("seconds", {})
    if recorded:
        return sum(float(value) for value in recorded.values())
    spec = registry.spec(item.stage)
    if spec.distributed:
        return _TRAINING_SECONDS
    return _TORCH_SECONDS if spec.torch else _OTHER_SECONDS
