"""Bringing a whole lineage up to date: launches what differs from `dvc.lock`, in order, a few items at a time.

Each launch is a Dagster run of one asset and partition on the persistent instance, visible in the UI. Current items are not launched.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from dagster_project.location import Location
from dagster_project.worker import Outcome, Task, work
from rlip_assets.dvc.lock import DvcLock, LockEntry, present
from rlip_assets.dvc.repair import repair
from rlip_assets.lineage.provenance import read_provenance
from rlip_assets.lineage.spec import Registry, StageItem
from rlip_assets.storage.errors import BusyError, RlipError

Tell = Callable[[str], None]
_TORCH_SECONDS, _OTHER_SECONDS = 60.0, 4.0
_PASSES = 3


class LineageError(RlipError):
    """An item of the lineage failed."""


@dataclass
class Launched:
    """One finished launch: its run, and its seconds by kind."""

    address: str
    run_id: str
    seconds: float
    startup: float
    work: float

    @property
    def overhead(self) -> float:
        """Seconds of orchestration: Dagster, DVC and moving outputs."""
        return max(self.seconds - self.startup - self.work, 0.0)


@dataclass
class Summary:
    """Launches and seconds of bringing a lineage up to date."""

    launched: list[Launched] = field(default_factory=list)
    current: int = 0
    seconds: float = 0.0
    changed_results: list[str] = field(default_factory=list)
    """Launched items whose result differs from the one in `dvc.lock`, with the same command, parameters and inputs."""


def changed_items(location: Location) -> set[str]:
    """Return the addresses of items whose parameters, version, inputs or outputs differ from `dvc.lock`.

    Raises:
        BusyError: another DVC process uses a path of the lineage.
        LineageError: `dvc status` failed.
    """
    result = subprocess.run(
        [sys.executable, "-m", "dvc", "--wait-for-lock", "status", "--json"],
        cwd=location.root,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        problem = " ".join((result.stderr or result.stdout).split())
        if "busy" in problem or "lock" in problem:
            raise BusyError(f"Another DVC process works in {location.root}; wait for it to end ({problem[:200]})")
        raise LineageError(f"`dvc status` failed in {location.root}: {problem[:500]}")
    status = json.loads(result.stdout.strip().splitlines()[-1]) if result.stdout.strip() else {}
    found = {name.rsplit(":", 1)[-1]: reasons for name, reasons in status.items()}
    return {
        item.address for item in location.registry.items() if _differs(location.registry, found.get(item.address, []))
    }


def _differs(registry: Registry, reasons: list[Any]) -> bool:
    """Return True if an entry of `dvc status` is a reason to launch; a missing input is not, since its writer is launched first."""
    for reason in reasons:
        if not isinstance(reason, dict) or set(reason) != {"changed deps"}:
            return True
        if any(state != "deleted" or not registry.writers(path) for path, state in reason["changed deps"].items()):
            return True
    return False


def bring_up_to_date(location: Location, target: str, tell: Tell, slots: int = 2) -> Summary:
    """Launch until DVC finds nothing changed: one pass, unless a missing input is remade with another content.

    Raises:
        LineageError: an item failed, or three passes were not enough.
    """
    for sentence in repair(location.root):
        tell(sentence)
    total, began, before = Summary(), time.monotonic(), DvcLock.read(location.root)
    for _ in range(_PASSES):
        changed = changed_items(location)
        absent = sum(not present(location.registry.at(address), location.root) for address in changed)
        aside = f" ({absent} are not in the tree)" if absent else ""
        tell(f"{len(changed)} of {len(location.registry.order)} items differ from dvc.lock{aside}")
        if not changed:
            launched = {one.address: None for one in total.launched}
            total.current = len(location.registry.order) - len(launched)
            total.changed_results = changed_results(launched, before, DvcLock.read(location.root))
            total.seconds = time.monotonic() - began
            return total
        total.launched += LineageRun(location, target, changed, tell, slots).run().launched
    raise LineageError(
        f"{', '.join(sorted(changed_items(location)))} still differ from dvc.lock; is something else writing to data/?"
    )


class LineageRun:
    """One pass over the lineage."""

    def __init__(self, location: Location, target: str, changed: Iterable[str], tell: Tell, slots: int = 2) -> None:
        self._location, self._target, self._tell, self._slots = location, target, tell, slots
        registry = location.registry
        self._changed = set(changed)
        self._before = DvcLock.read(location.root)
        reachable = registry.downstream(self._changed)
        self._waiting = [address for address in registry.order if address in reachable]
        self._priority = critical_seconds(registry, location.root)
        self._workers: list[_Worker] = []
        self._total = len(self._waiting)
        self.summary = Summary(current=len(registry.order) - self._total)

    def run(self) -> Summary:
        """Launch everything that is not current.

        Raises:
            LineageError: an item failed; running items have been ended, no other was started.
        """
        began = time.monotonic()
        try:
            while self._waiting or self._busy():
                self._skip_current()
                self._start_ready()
                if self._busy():
                    self._collect()
        finally:
            self._end_workers()
            self.summary.seconds = time.monotonic() - began
        return self.summary

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.task is not None]

    def _ready(self) -> list[str]:
        unfinished = {*self._waiting, *(worker.task.address for worker in self._busy() if worker.task)}
        parents = self._location.registry.parents
        ready = [address for address in self._waiting if not any(parent in unfinished for parent in parents[address])]
        return sorted(ready, key=lambda address: -self._priority[address])

    def _skip_current(self) -> None:
        """Drop unchanged items below a rerun one if all their parents wrote the same as before."""
        lock = DvcLock.read(self._location.root)
        while current := [address for address in self._ready() if self._is_current(address, lock)]:
            self._waiting = [address for address in self._waiting if address not in current]
            self.summary.current += len(current)
            self._total -= len(current)

    def _is_current(self, address: str, lock: DvcLock) -> bool:
        parents = self._location.registry.parents[address]
        return address not in self._changed and all(
            _same_data(self._before.get(parent), lock.get(parent)) for parent in parents
        )

    def _start_ready(self) -> None:
        for address in self._ready():
            worker = self._free_worker()
            if worker is None:
                return
            self._waiting.remove(address)
            lines = self._location.root / "work" / "lines" / f"{address}.log"
            lines.parent.mkdir(parents=True, exist_ok=True)
            lines.write_text("")
            worker.start(Task(address, lines))
            self._tell(f"[{len(self.summary.launched) + len(self._busy())}/{self._total}] {address} started")

    def _free_worker(self) -> _Worker | None:
        for worker in self._workers:
            if worker.task is None:
                return worker
        if len(self._workers) < self._slots:
            log = self._location.root / "work" / "lines" / f"worker-{len(self._workers)}.log"
            self._workers.append(_Worker(self._target, log))
            return self._workers[-1]
        return None

    def _collect(self) -> None:
        """Wait briefly for outcomes and print the lines of running stages."""
        ready = wait([worker.connection for worker in self._busy()], timeout=0.5)
        for worker in self._busy():
            for line in worker.new_lines():
                self._tell(f"    {worker.address}: {line}")
            if worker.connection in ready:
                self._finish(worker.finish(), worker.log)

    def _finish(self, outcome: Outcome, log: Path) -> None:
        if outcome.error is not None:
            raise LineageError(
                f"{outcome.address} failed: {' '.join(outcome.error.split())[:600]} (all it printed is in "
                f"{log.relative_to(self._location.root)}, its run in Dagster is {outcome.run_id})"
            )
        made = read_provenance(self._location.root, self._location.registry.at(outcome.address))
        seconds = made.get("seconds", {}) if made.get("dagster_run") == outcome.run_id else {}
        done = Launched(
            outcome.address,
            outcome.run_id,
            outcome.seconds,
            float(seconds.get("startup", 0)),
            float(seconds.get("work", 0)),
        )
        self.summary.launched.append(done)
        self._tell(f"    {outcome.address} done in {outcome.seconds:.1f} s")

    def _end_workers(self) -> None:
        for worker in self._workers:
            worker.end()


def changed_results(addresses: Iterable[str], before: DvcLock, now: DvcLock) -> list[str]:
    """Return the addresses whose outputs differ between two locks although command, parameters and inputs are the same.

    Float results differ between processors, so this is expected of stages with a network if the lock comes from another machine.
    """
    found = []
    for address in addresses:
        old, new = before.get(address), now.get(address)
        if old is not None and new is not None and old.made_from == new.made_from and old.outs != new.outs:
            found.append(address)
    return found


def _same_data(before: LockEntry | None, now: LockEntry | None) -> bool:
    return before is not None and now is not None and before.outs == now.outs


class _Worker:
    """A worker process and its current task, seen from the parent."""

    def __init__(self, target: str, log: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection: Connection
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=work, args=(theirs, target, log), daemon=False)
        self.process.start()
        theirs.close()
        self.log = log
        self.task: Task | None = None
        self._read = 0

    @property
    def address(self) -> str:
        """Address of the current item."""
        return self.task.address if self.task else ""

    def start(self, task: Task) -> None:
        """Send a task to the process."""
        self.task, self._read = task, 0
        self.connection.send(task)

    def finish(self) -> Outcome:
        """Return the outcome of the current task; that of a dead worker is an error."""
        assert self.task is not None
        try:
            outcome: Outcome = self.connection.recv()
        except EOFError:
            outcome = Outcome(self.task.address, "none", 0.0, "its worker process was killed; is memory exhausted?")
        self.task = None
        return outcome

    def new_lines(self) -> list[str]:
        """Return the complete lines that the stage has written since the last call."""
        assert self.task is not None
        with self.task.lines.open("rb") as stream:
            stream.seek(self._read)
            content = stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        return [line for line in whole.decode(errors="replace").splitlines() if line.strip()]

    def end(self) -> None:
        """End the process; interrupt it if it has a task."""
        if self.task is not None and self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, signal.SIGINT)
        with suppress(OSError):
            self.connection.send(None)
        self.process.join(timeout=30)
        if self.process.is_alive():
            self.process.kill()


def critical_seconds(registry: Registry, root: Path) -> dict[str, float]:
    """Return address -> seconds of the longest chain from its start to the end of the lineage, by the last known durations."""
    children: dict[str, list[str]] = {address: [] for address in registry.order}
    for child, parents in registry.parents.items():
        for parent in parents:
            children[parent].append(child)
    seconds: dict[str, float] = {}
    for address in reversed(registry.order):
        item = registry.at(address)
        seconds[address] = _expected_seconds(registry, item, root) + max(
            (seconds[c] for c in children[address]), default=0.0
        )
    return seconds


def _expected_seconds(registry: Registry, item: StageItem, root: Path) -> float:
    recorded = read_provenance(root, item).get("seconds", {})
    if recorded:
        return sum(float(value) for value in recorded.values())
    return _TORCH_SECONDS if registry.spec(item.stage).torch else _OTHER_SECONDS
