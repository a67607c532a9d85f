"""The Dagster instance of this machine: runs whose process was killed, which Dagster still counts as running, and the pool of its GPUs."""

from __future__ import annotations

import os
import platform

import psutil
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from rlip_assets.lineage.environment import gpus

GPU_POOL = "gpu"
WORKER_TAG = "rlip/worker"
"""Tag of a run: machine, number and start time of the process that executes it."""
_IN_PROGRESS = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
_SLACK_SECONDS = 5.0
"""Tolerance for the start time of a process, which shifts when the clock is set."""


def this_worker() -> str:
    """Return the value of `WORKER_TAG` for this process."""
    return f"{platform.node()} {os.getpid()} {psutil.Process().create_time():.2f}"


def end_dead_runs(instance: DagsterInstance) -> list[str]:
    """Mark runs whose process is gone as failed and free the pool slots of all finished runs; return the ids of the dead runs."""
    dead = []
    for run in instance.get_runs(RunsFilter(statuses=_IN_PROGRESS)):
        if _is_dead(run):
            instance.report_run_failed(run, "the process of this run was killed")
            dead.append(run.run_id)
    storage = instance.event_log_storage
    for run_id in storage.get_concurrency_run_ids() if storage.supports_global_concurrency_limits else ():
        holder = instance.get_run_by_id(run_id)
        if holder is None or holder.is_finished:
            storage.free_concurrency_slots_for_run(run_id)
    return dead


def follow_gpus(instance: DagsterInstance) -> None:
    """Set the limit of the pool `gpu` to the number of GPUs of this machine; without one, the instance's default limit holds."""
    storage, count = instance.event_log_storage, len(gpus())
    if count:
        storage.set_concurrency_slots(GPU_POOL, count)
    elif any(limit.name == GPU_POOL and not limit.from_default for limit in storage.get_pool_limits()):
        storage.delete_concurrency_limit(GPU_POOL)


def _is_dead(run: DagsterRun) -> bool:
    """Return True if the process of a run is gone; runs without a process tag, or of another machine, are left alone."""
    words = run.tags.get(WORKER_TAG, "").rsplit(" ", 2)
    if len(words) < 3 or words[0] != platform.node():
        return False
    number, began = words[1:]
    try:
        return bool(abs(psutil.Process(int(number)).create_time() - float(began)) > _SLACK_SECONDS)
    except psutil.NoSuchProcess:
        return True
