"""Run checks one after the other: each alone with its errors and its time, all within the minutes of the run."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic

from perf.gpu_checks.cases import Sizes
from perf.gpu_checks.deadline import Deadline, OutOfTime, Stopped, stop_signals, time_limit, watchdog
from perf.gpu_checks.device import Device
from perf.gpu_checks.record import Record, Row

LEAST = 5.0
"""Seconds that must be left to begin a check."""
BROKEN = 4
"""Exit status where a check left the device unusable for this process; another process can go on with the other checks."""


@dataclass(frozen=True)
class Check:
    """A check and the most seconds that it may take."""

    name: str
    title: str
    seconds: float
    rows: Callable[[Device, Sizes], Iterator[Row]]


def run_checks(checks: Sequence[Check], device: Device, sizes: Sizes, record: Record, deadline: Deadline) -> int:
    """Run all checks that fit in the time, in order.

    Returns:
        exit status: 0 when no check failed, 1 when one did, 143 when the run was stopped, BROKEN when it must go on in a new process.
    """
    try:
        with stop_signals(), watchdog(deadline, lambda: record.close("ended by the watchdog: a call did not return")):
            for check in checks:
                if deadline.left() >= LEAST and record.outcomes[check.name].status == "not run":
                    run_check(check, device, sizes, record, deadline)
                    if not clean(device, record, check.name):
                        return BROKEN
    except Stopped as stopped:
        record.close(f"stopped by {stopped}")
        return 143
    skipped = [outcome.name for outcome in record.outcomes.values() if outcome.status == "not run"]
    record.close(f"finished; no time was left for {', '.join(skipped)}" if skipped else "finished")
    return int(any(outcome.status in ("failed", "error") for outcome in record.outcomes.values()))


def run_check(check: Check, device: Device, sizes: Sizes, record: Record, deadline: Deadline) -> None:
    """Run one check; whatever it raises becomes part of the record."""
    outcome, started = record.begin(check.name), monotonic()
    status, message = "error", ""
    try:
        with time_limit(min(check.seconds, deadline.left())), device.precision("fp32"):
            for row in check.rows(device, sizes):
                record.add(outcome, row)
        wrong = [row["name"] for row in outcome.rows if row["ok"] is False]
        status, message = ("failed", f"wrong: {', '.join(wrong)}") if wrong else ("passed", "")
    except OutOfTime:
        status, message = "out of time", "rows up to here are kept"
    except Stopped:
        status, message = "stopped", "rows up to here are kept"
        raise
    except Exception as error:
        traceback.print_exc()
        message = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    finally:
        record.end(outcome, status, message, monotonic() - started)


def clean(device: Device, record: Record, name: str) -> bool:
    """Free what a check held; return whether the device can still be used, and write down a check that broke it."""
    try:
        device.free()
        device.synchronise()
    except RuntimeError as error:
        outcome = record.outcomes[name]
        message = outcome.message or str(error).splitlines()[0]
        record.end(outcome, "error", f"{message}; the device was unusable afterwards", outcome.seconds)
        return False
    return True
