"""Runs whose process was killed: Dagster takes them for running and keeps their places in pools, so that others would wait for ever."""

from __future__ import annotations

import os
import platform

import psutil
from dagster import DagsterInstance, DagsterRun, RunsFilter
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

WORKER_TAG = "rlip/worker"
"""Tag of a run: machine, number and start time of the process that executes it."""
_SLACK_SECONDS = 5.0
"""By how much the start time of one process may seem to differ, as clocks are set."""


def this_worker() -> str:
    """What the tag says of this process."""
    return f"{platform.node()} {os.getpid()} {psutil.Process().create_time():.2f}"


def end_dead_runs(instance: DagsterInstance) -> list[str]:
    """Report runs whose process is gone as failed and give back the places of all that have ended; returns the ids of the dead ones."""
    dead = []
    for run in instance.get_runs(RunsFilter(statuses=list(IN_PROGRESS_RUN_STATUSES))):
        if _is_dead(run):
            instance.report_run_failed(run, "the process of this run was killed")
            dead.append(run.run_id)
    storage = instance.event_log_storage
    for run_id in storage.get_concurrency_run_ids() if storage.supports_global_concurrency_limits else ():
        holder = instance.get_run_by_id(run_id)
        if holder is None or holder.is_finished:
            storage.free_concurrency_slots_for_run(run_id)
    return dead


def _is_dead(run: DagsterRun) -> bool:
    """Whether the process that a run names is gone; one that names none, or one of another machine, is left to whoever started it."""
    words = run.tags.get(WORKER_TAG, "").rsplit(" ", 2)
    if len(words) < 3 or words[0] != platform.node():
        return False
    number, began = words[1:]
    try:
        return abs(psutil.Process(int(number)).create_time() - float(began)) > _SLACK_SECONDS
    except psutil.NoSuchProcess:
        return True
