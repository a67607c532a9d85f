"""Bring a whole lineage up to date: launch what differs from `dvc.lock`, in order, a few runs at a time.

A run is of one item, or of several cheap ones of a stage that are ready together, which DVC makes in one call; current items are not
launched. Who executes a run is the caller's choice: `dagster_project/launcher.py` makes each one a Dagster run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from rlip_assets.dvc.lock import DvcLock, present
from rlip_assets.dvc.pending import Pending
from rlip_assets.dvc.repair import repair
from rlip_assets.dvc.status import changed_items, changed_results
from rlip_assets.lineage.log import LineReader
from rlip_assets.lineage.provenance import read_provenance
from rlip_assets.lineage.spec import Registry
from rlip_assets.storage.errors import RlipError

LINES_FOLDER = "work/lines"
_PASSES, _LOOK_SECONDS = 3, 1.0


class LineageError(RlipError):
    """An item of the lineage failed."""


@dataclass(frozen=True)
class Task:
    """Make items of one stage, neighbours among its partitions; their stages' lines go to the file `lines`."""

    addresses: tuple[str, ...]
    lines: Path
    force: bool = False

    @property
    def spoken(self) -> str:
        """The items in a few words."""
        more = f" and {len(self.addresses) - 1} more" if len(self.addresses) > 1 else ""
        return f"{self.addresses[0]}{more}"


@dataclass(frozen=True)
class Outcome:
    """Result of a task: its run, total seconds, and the error if it failed."""

    run_id: str
    seconds: float
    error: str | None


@dataclass
class Launched:
    """One finished launch: its items and run, and its seconds by kind."""

    addresses: tuple[str, ...]
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

    @property
    def addresses(self) -> list[str]:
        """Every launched item, in order."""
        return [address for one in self.launched for address in one.addresses]


Tell = Callable[[str], None]
Submit = Callable[[Task], Future[Outcome]]
Neighbours = Callable[[str], Sequence[str]]
Workers = Callable[[set[str]], AbstractContextManager[Submit]]
"""Open what executes tasks, for a pass in which these addresses have changed."""


def bring_up_to_date(
    registry: Registry, root: Path, neighbours: Neighbours, workers: Workers, tell: Tell, slots: int = 2
) -> Summary:
    """Launch until DVC finds nothing changed: one pass, unless a missing input is remade with another content.

    Args:
        neighbours: addresses of all items of an item's stage, in an order of which a task is a part without gaps.
        slots: tasks that are executed side by side.

    Raises:
        LineageError: an item failed, or three passes were not enough.
    """
    for sentence in repair(root):
        tell(sentence)
    summary, began, before = Summary(), time.monotonic(), DvcLock.read(root)
    for _ in range(_PASSES):
        changed = changed_items(registry, root)
        absent = sum(not present(registry.at(address), root) for address in changed)
        aside = f" ({absent} are not in the tree)" if absent else ""
        tell(f"{len(changed)} of {len(registry.order)} items differ from dvc.lock{aside}")
        if not changed:
            launched = set(summary.addresses)
            summary.current = len(registry.order) - len(launched)
            summary.changed_results = changed_results(summary.addresses, before, DvcLock.read(root))
            summary.seconds = time.monotonic() - began
            return summary
        with workers(changed) as submit:
            summary.launched += _Pass(registry, root, Pending(registry, root, changed, neighbours), tell, slots).run(
                submit
            )
    remaining = ", ".join(sorted(changed_items(registry, root)))
    raise LineageError(f"{remaining} still differ from dvc.lock; is something else writing to data/?")


class _Pass:
    """One pass over the lineage."""

    def __init__(self, registry: Registry, root: Path, pending: Pending, tell: Tell, slots: int) -> None:
        self._registry, self._root, self._pending, self._tell, self._slots = registry, root, pending, tell, slots
        self._started, self._running = 0, dict[Future[Outcome], tuple[Task, LineReader]]()

    def run(self, submit: Submit) -> list[Launched]:
        """Launch everything that is not current; LineageError if an item failed."""
        launched: list[Launched] = []
        while self._pending or self._running:
            while (free := self._slots - len(self._running)) and (batch := self._pending.take(free)):
                self._start(submit, Task(batch, self._root / LINES_FOLDER / f"{batch[0]}.log"))
            done, _ = wait(self._running, _LOOK_SECONDS, FIRST_COMPLETED)
            for task, lines in self._running.values():
                for line in lines.new():
                    self._tell(f"    {task.spoken}: {line}")
            for future in done:
                task, _ = self._running.pop(future)
                launched.append(self._finished(task, future))
                self._pending.done(task.addresses)
        return launched

    def _start(self, submit: Submit, task: Task) -> None:
        self._started += len(task.addresses)
        lines = LineReader(task.lines)
        self._running[submit(task)] = task, lines
        self._tell(f"[{self._started}/{self._pending.total}] {task.spoken} started")

    def _finished(self, task: Task, future: Future[Outcome]) -> Launched:
        try:
            outcome = future.result()
        except BrokenProcessPool:
            raise LineageError(f"{task.spoken} failed: its worker process was killed; is memory exhausted?") from None
        if outcome.error is not None:
            raise LineageError(
                f"{task.spoken} failed: {' '.join(outcome.error.split())[:600]} (all it printed is in {LINES_FOLDER}/workers.log, "
                f"its run in Dagster is {outcome.run_id})"
            )
        startup = work = 0.0
        for address in task.addresses:
            made = read_provenance(self._root, self._registry.at(address))
            if made.get("dagster_run") == outcome.run_id:
                startup += float(made["seconds"]["startup"])
                work += float(made["seconds"]["work"])
        self._tell(f"    {task.spoken} done in {outcome.seconds:.1f} s")
        return Launched(task.addresses, outcome.run_id, outcome.seconds, startup, work)
