"""Bring a whole lineage up to date: launch what differs from `dvc.lock`, in order, a few runs at a time.

Each launch is a Dagster run on the persistent instance, visible in the UI: of one item, or of several cheap ones of a stage that are
ready together, which DVC makes in one call. Current items are not launched.

Dagster's own ways would cost more than a tenth of `rlip demo`. By `perf.orchestration --buckets 12 --shards 24` on two cores, a backfill of
a run per bucket through queue and daemon takes 7.4 processor seconds a bucket, and a warm process with several in a run 2.0. For the
demo's 56 items the difference is 300 of its 1,760 processor seconds, 17 %. One run with an executor cannot span the stages, for their
partitions differ.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from pathlib import Path

from dagster_project.location import Location
from dagster_project.worker import Outcome, Task, begin, run_task
from rlip_assets.cli.summary import Launched, Summary
from rlip_assets.cli.warm_server import warm_stages
from rlip_assets.dvc.lock import DvcLock, present
from rlip_assets.dvc.pending import Pending
from rlip_assets.dvc.repair import repair
from rlip_assets.dvc.status import changed_items, changed_results
from rlip_assets.lineage.log import LineReader
from rlip_assets.lineage.provenance import read_provenance
from rlip_assets.storage.errors import RlipError

Tell = Callable[[str], None]
_PASSES, _LOOK_SECONDS = 3, 1.0
_LOG_BYTES = 10_000_000
"""Size from which the log of the workers is begun anew; the last one is kept."""


class LineageError(RlipError):
    """An item of the lineage failed."""


def bring_up_to_date(location: Location, target: str, tell: Tell, slots: int = 2) -> Summary:
    """Launch until DVC finds nothing changed: one pass, unless a missing input is remade with another content.

    Args:
        target: the `module:function` by which worker processes find the location.

    Raises:
        LineageError: an item failed, or three passes were not enough.
    """
    registry, root, lines = location.registry, location.root, location.root / "work/lines"
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
        with warm_stages(registry, changed, lines), _workers(target, lines / "workers.log", slots) as workers:
            summary.launched += _Pass(location, changed, tell, slots).run(workers)
    remaining = ", ".join(sorted(changed_items(registry, root)))
    raise LineageError(f"{remaining} still differ from dvc.lock; is something else writing to data/?")


@contextmanager
def _workers(target: str, log: Path, slots: int) -> Iterator[ProcessPoolExecutor]:
    """Yield warm worker processes; those that are at work when something fails are interrupted, which ends DVC and its stage too."""
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".old.log"))
    pool = ProcessPoolExecutor(slots, get_context("spawn"), begin, (target, log, os.getpid()))
    try:
        yield pool
    except BaseException:
        for worker in active_children():
            os.kill(int(worker.pid or 0), signal.SIGINT)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class _Pass:
    """One pass over the lineage."""

    def __init__(self, location: Location, changed: set[str], tell: Tell, slots: int) -> None:
        self._location, self._tell, self._slots = location, tell, slots
        project = location.project
        self._pending = Pending(
            location.registry, location.root, changed, lambda a: [item.address for item in project.stage_of[a].items]
        )
        self._started, self._running = 0, dict[Future[Outcome], tuple[Task, LineReader]]()

    def run(self, workers: ProcessPoolExecutor) -> list[Launched]:
        """Launch everything that is not current; LineageError if an item failed."""
        launched: list[Launched] = []
        while self._pending or self._running:
            while (free := self._slots - len(self._running)) and (batch := self._pending.take(free)):
                self._start(workers, Task(batch, self._location.root / "work/lines" / f"{batch[0]}.log"))
            done, _ = wait(self._running, _LOOK_SECONDS, FIRST_COMPLETED)
            for task, lines in self._running.values():
                for line in lines.new():
                    self._tell(f"    {task.spoken}: {line}")
            for future in done:
                task, _ = self._running.pop(future)
                launched.append(self._finished(task, future))
                self._pending.done(task.addresses)
        return launched

    def _start(self, workers: ProcessPoolExecutor, task: Task) -> None:
        self._started += len(task.addresses)
        lines = LineReader(task.lines)
        self._running[workers.submit(run_task, task)] = task, lines
        self._tell(f"[{self._started}/{self._pending.total}] {task.spoken} started")

    def _finished(self, task: Task, future: Future[Outcome]) -> Launched:
        try:
            outcome = future.result()
        except BrokenProcessPool:
            raise LineageError(f"{task.spoken} failed: its worker process was killed; is memory exhausted?") from None
        if outcome.error is not None:
            raise LineageError(
                f"{task.spoken} failed: {' '.join(outcome.error.split())[:600]} (all it printed is in work/lines/workers.log, "
                f"its run in Dagster is {outcome.run_id})"
            )
        startup = work = 0.0
        for address in task.addresses:
            made = read_provenance(self._location.root, self._location.registry.at(address))
            if made.get("dagster_run") == outcome.run_id:
                startup += float(made["seconds"]["startup"])
                work += float(made["seconds"]["work"])
        self._tell(f"    {task.spoken} done in {outcome.seconds:.1f} s")
        return Launched(task.addresses, outcome.run_id, outcome.seconds, startup, work)
