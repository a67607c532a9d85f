"""A stage ends when the process that asked for it is gone.

DVC sits between Dagster and the stage and does not pass a kill on; without this, a killed run would leave a stage working for hours.
"""

from __future__ import annotations

import os
import signal
import threading
import time

import psutil

REQUESTER_VARIABLE = "DAGSTER_PROCESS_ID"
"""Set by `dagster_dvc`: the process of the Dagster run."""
_INTERVAL = 1.0


def end_with_requester() -> None:
    """Watch the process named by DAGSTER_PROCESS_ID, if any, and end this process (SIGTERM to itself) when that one is gone."""
    if pid := os.environ.get(REQUESTER_VARIABLE):
        end_with_process(int(pid))


def end_with_process(pid: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Watch a process and send this one a signal when that one is gone."""
    threading.Thread(target=_watch, args=(pid, number), daemon=True).start()


def _watch(pid: int, number: signal.Signals) -> None:
    try:
        requester = psutil.Process(pid)
        while requester.is_running() and requester.status() != psutil.STATUS_ZOMBIE:
            time.sleep(_INTERVAL)
    except psutil.NoSuchProcess:
        pass
    os.kill(os.getpid(), number)
