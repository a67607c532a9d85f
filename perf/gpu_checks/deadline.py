"""Time limits: of a check, by an alarm that raises; of the whole run, by a thread that ends a process which hangs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from types import FrameType

GRACE = 20.0
"""Seconds past the deadline after which a process that does not return to Python is ended."""
HUNG = 3
"""Exit status of such a process."""


class OutOfTime(BaseException):
    """A check has used its time. No `Exception`, so that no library takes it for an error of its own and goes on."""


class Stopped(BaseException):
    """The process was asked to stop."""


class Deadline:
    """The end of a run, counted from its start."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, at least 0."""
        return max(0.0, self.end - time.monotonic())


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the main thread once `seconds` have passed."""

    def alarm(_: int, __: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def stop_signals() -> Iterator[None]:
    """Raise Stopped on SIGTERM and SIGINT."""

    def stop(number: int, _: FrameType | None) -> None:
        raise Stopped(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def watchdog(deadline: Deadline, last_words: Callable[[], None]) -> Iterator[None]:
    """End the process with status HUNG if it is still busy GRACE seconds past the deadline: a call into a driver may never return."""

    def end() -> None:
        try:
            last_words()
        finally:
            os._exit(HUNG)

    timer = Timer(deadline.left() + GRACE, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
