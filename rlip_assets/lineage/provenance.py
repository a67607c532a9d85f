"""Provenance of an item, the part of a result that does not follow from its inputs: maker, time, machine, seconds."""

from __future__ import annotations

import os
import platform
import resource
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from rlip_assets.lineage.environment import git, machine
from rlip_assets.lineage.spec import StageItem
from rlip_assets.lineage.stage_run import StageRun
from rlip_assets.storage.errors import DataError
from rlip_assets.storage.files import read_object

DAGSTER_RUN_VARIABLE = "DAGSTER_RUN_ID"
"""Set by `dagster_dvc` for the process tree of the stage that a run asked for."""


@dataclass
class Clock:
    """Splits the life of this process into start-up (interpreter, imports, hashing) and work (the stage function)."""

    process_started: float
    work_started: float = 0.0
    work_ended: float = 0.0

    @classmethod
    def start(cls) -> Clock:
        """Return a clock that knows when this process began."""
        return cls(psutil.Process().create_time())

    def begin_work(self) -> None:
        """The stage function is about to be called."""
        self.work_started = time.time()

    def end_work(self) -> None:
        """The stage function has returned."""
        self.work_ended = time.time()

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of start-up and of work."""
        return {
            "startup": round(self.work_started - self.process_started, 2),
            "work": round(self.work_ended - self.work_started, 2),
        }


def describe_run(run: StageRun, clock: Clock, log: Any) -> dict[str, Any]:
    """Return the content of the item's provenance file.

    `log.run_id` is the MLflow run, None where there is none or it could not be made yet; `log.tracking_key` names it in any case.
    """
    return {
        "item": run.item.address,
        "started": _moment(clock.process_started),
        "finished": _moment(time.time()),
        "seconds": clock.seconds,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "machine": machine(),
        "python": platform.python_version(),
        "commit": git_commit(run.root),
        "mlflow_run": getattr(log, "run_id", None),
        "mlflow_experiment": getattr(log, "experiment_id", None),
        "tracking_key": getattr(log, "tracking_key", None),
        "dagster_run": os.environ.get(DAGSTER_RUN_VARIABLE),
    }


def read_provenance(root: Path, item: StageItem) -> dict[str, Any]:
    """Return the provenance of an item, empty where there is none."""
    try:
        return read_object(root / item.provenance, "remove it")
    except (FileNotFoundError, DataError):
        return {}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def git_commit(root: Path) -> str | None:
    """Return the commit of the working tree at `root`, None where there is none."""
    return (git(root, "rev-parse", "HEAD") or "").strip() or None
