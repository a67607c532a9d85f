"""A worker process that materialises one task after another on the persistent Dagster instance.

Starting a process per run would take longer than most stages of the micro profile; a worker imports Dagster once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from importlib import import_module
from pathlib import Path

import dagster as dg

from dagster_dvc.execution import failure_reason
from dagster_dvc.translator import FORCE_TAG
from dagster_project.instance import WORKER_TAG, end_dead_runs, this_worker
from dagster_project.location import Location
from rlip_assets.dvc.up_to_date import Outcome, Task
from rlip_assets.lineage.log import LINES_VARIABLE
from rlip_assets.lineage.watchdog import end_with_process

LAUNCHED_TAG = "rlip/launched_by"
RANGE_TAGS = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
"""Dagster's tags of a run over several partitions."""
_context: tuple[dg.DagsterInstance, Location]
"""Instance and location of this worker process."""


def begin(target: str, log: Path, parent: int) -> None:
    """Prepare a worker process: output goes to `log`, `target` is the `module:function` of the location; it ends with `parent`."""
    global _context
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())
    end_with_process(parent, signal.SIGINT)
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
