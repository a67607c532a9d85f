"""A worker process that materialises one task after another on the persistent Dagster instance.

Starting a process per run would take longer than most stages of the micro profile; a worker imports Dagster once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import dagster as dg
import psutil

from dagster_dvc.execution import failure_reason
from dagster_project.instance import WORKER_TAG, end_dead_runs, this_worker
from dagster_project.location import Location
from dagster_project.translator import FORCE_TAG
from rlip_assets.lineage.log import LINES_VARIABLE

LAUNCHED_TAG = "rlip/launched_by"
RANGE_TAGS = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
"""Dagster's tags of a run over several partitions."""
_context: tuple[dg.DagsterInstance, Location]
"""Instance and location of this worker process."""


@dataclass(frozen=True)
class Task:
    """Materialise items of one stage, neighbours among its partitions; their stages' lines go to the file `lines`."""

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


def begin(target: str, log: Path, parent: int) -> None:
    """Prepare a worker process: output goes to `log`, `target` is the `module:function` of the location; it ends with `parent`."""
    global _context
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())
    threading.Thread(target=_interrupt_when_orphaned, args=(parent,), daemon=True).start()
    module, _, function = target.partition(":")
    _context = dg.DagsterInstance.get(), getattr(import_module(module), function)()


def run_task(task: Task) -> Outcome:
    """Execute a task in this worker process."""
    return materialise(*_context, task)


def materialise(instance: dg.DagsterInstance, location: Location, task: Task) -> Outcome:
    """Execute one Dagster run of one asset and its partitions."""
    items = [location.registry.at(address) for address in task.addresses]
    tags = {LAUNCHED_TAG: "rlip demo", WORKER_TAG: this_worker(), **({FORCE_TAG: "true"} if task.force else {})}
    if len(items) > 1:
        tags |= dict(zip(RANGE_TAGS, (str(items[0].partition), str(items[-1].partition)), strict=True))
    os.environ[LINES_VARIABLE] = str(task.lines)
    began = time.monotonic()
    end_dead_runs(instance)
    result = location.job.execute_in_process(
        instance=instance,
        asset_selection=[location.key(items[0].stage)],
        partition_key=items[0].partition if len(items) == 1 else None,
        tags=tags,
        raise_on_error=False,
    )
    error = None
    if not result.success:
        error = next((failure_reason(event) for event in result.all_events if event.is_step_failure), "the run failed")
    return Outcome(result.run_id, time.monotonic() - began, error)


def _interrupt_when_orphaned(parent: int) -> None:
    while os.getppid() == parent and psutil.pid_exists(parent):
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGINT)
