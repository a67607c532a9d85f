"""A worker process that materialises one item after another on the persistent Dagster instance.

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
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
from dagster import DagsterEvent, DagsterInstance
from dagster._core.errors import DagsterExecutionInterruptedError

from dagster_project.dead_runs import WORKER_TAG, end_dead_runs, this_worker
from dagster_project.location import Location
from dagster_project.translator import FORCE_TAG
from rlip_assets.lineage.log import LINES_VARIABLE

LAUNCHED_TAG = "rlip/launched_by"


@dataclass(frozen=True)
class Task:
    """Materialise one item; its stage's lines go to the file `lines`."""

    address: str
    lines: Path
    force: bool = False


@dataclass(frozen=True)
class Outcome:
    """Result of a task: its run, total seconds, and the error if it failed."""

    address: str
    run_id: str
    seconds: float
    error: str | None


def work(connection: Connection, target: str, output: Path) -> None:
    """Serve tasks from `connection` until it closes or sends None; `target` is the `module:function` that gives the location."""
    _redirect_output(output)
    threading.Thread(target=_interrupt_when_orphaned, args=(os.getppid(),), daemon=True).start()
    module, _, function = target.partition(":")
    location: Location = getattr(import_module(module), function)()
    with DagsterInstance.get() as instance:
        while (task := _next_task(connection)) is not None:
            try:
                outcome = materialise(instance, location, task)
            except (KeyboardInterrupt, DagsterExecutionInterruptedError):
                print(f"interrupted at {task.address}", flush=True)
                return
            connection.send(outcome)


def _next_task(connection: Connection) -> Task | None:
    try:
        task: Task | None = connection.recv()
    except (EOFError, KeyboardInterrupt):
        return None
    return task


def materialise(instance: DagsterInstance, location: Location, task: Task) -> Outcome:
    """Execute one Dagster run of one asset and partition."""
    item = location.registry.at(task.address)
    began = time.monotonic()
    end_dead_runs(instance)
    os.environ[LINES_VARIABLE] = str(task.lines)
    result = location.job.execute_in_process(
        instance=instance,
        asset_selection=[location.key(item.stage)],
        partition_key=item.partition,
        tags={LAUNCHED_TAG: "rlip demo", WORKER_TAG: this_worker(), **({FORCE_TAG: "true"} if task.force else {})},
        raise_on_error=False,
    )
    error = None
    if not result.success:
        error = next((_reason(event) for event in result.all_events if event.is_step_failure), "the run failed")
    return Outcome(task.address, result.run_id, time.monotonic() - began, error)


def _reason(failure: DagsterEvent) -> str:
    """Return the reason of a failed step: the description of its `dg.Failure`, else the message of the error."""
    data = failure.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return str(data.user_failure_data.description)
    return str(data.error.message) if data.error is not None else str(failure.message)


def _redirect_output(path: Path) -> None:
    """Send the output of this process and its children to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _interrupt_when_orphaned(parent: int) -> None:
    while psutil.pid_exists(parent) and os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGINT)
