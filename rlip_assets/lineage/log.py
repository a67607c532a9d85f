"""The log of a running stage: plain lines for people, the tracking store, and Dagster where it is the one who asked.

A stage reports once; each listener takes what it can show.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rlip_assets.lineage.context import NullLog, StageLog
from rlip_assets.lineage.stage_run import StageRun

if TYPE_CHECKING:
    from PIL.Image import Image

LINES_VARIABLE = "RLIP_LINES_FILE"
"""File to which lines are appended as well; `rlip demo` reads it to show the progress of stages that run side by side."""
_PIPES_VARIABLE = "DAGSTER_PIPES_CONTEXT"
Tracker = Callable[[StageRun], AbstractContextManager[StageLog]]


class LineLog(NullLog):
    """Plain lines to a stream and to listeners; progress at most every `interval` seconds, with rate and remaining time."""

    def __init__(self, *writers: Callable[[str], None], interval: float = 5.0) -> None:
        self._writers = writers
        self._interval = interval
        self._began = self._reported = time.monotonic()
        self._first = 0

    def info(self, message: str) -> None:
        for write in self._writers:
            write(message)

    def progress(self, done: int, total: int, unit: str) -> None:
        now = time.monotonic()
        if done <= 1 or done < self._first:
            self._began, self._first = now, done
        if now - self._reported < self._interval and done < total:
            return
        self._reported = now
        seconds = now - self._began
        rate = (done - self._first) / seconds if seconds > 0.1 else 0.0
        left = f", {(total - done) / rate:.0f} s left" if rate > 0 and done < total else ""
        speed = f", {rate:.1f} {unit}/s" if rate > 0 else ""
        self.info(f"{done}/{total} {unit}{speed}{left}")


class TeeLog:
    """Passes every report to several logs."""

    def __init__(self, logs: list[StageLog]) -> None:
        self._logs = logs
        self.run_id: str | None = next((log.run_id for log in logs if hasattr(log, "run_id")), None)
        self.experiment_id: str | None = next(
            (log.experiment_id for log in logs if hasattr(log, "experiment_id")), None
        )

    def info(self, message: str) -> None:
        for log in self._logs:
            log.info(message)

    def progress(self, done: int, total: int, unit: str) -> None:
        for log in self._logs:
            log.progress(done, total, unit)

    def params(self, values: Mapping[str, object]) -> None:
        for log in self._logs:
            log.params(values)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        for log in self._logs:
            log.metrics(values, step)

    def picture(self, name: str, image: Image) -> None:
        for log in self._logs:
            log.picture(name, image)

    def dataset(self, name: str, path: Path, digest: str) -> None:
        for log in self._logs:
            log.dataset(name, path, digest)

    def artifact(self, path: Path) -> None:
        for log in self._logs:
            log.artifact(path)

    def model(self, name: str, folder: Path) -> None:
        for log in self._logs:
            log.model(name, folder)


@contextmanager
def open_stage_log(run: StageRun, track: Tracker | None = None) -> Iterator[TeeLog]:
    """Open the log of one run, with every listener that is there; `track` opens that of a tracked stage in the tracking store."""
    with ExitStack() as stack:
        writers: list[Callable[[str], None]] = [_line_writer(sys.stderr)]
        if path := os.environ.get(LINES_VARIABLE):
            writers.append(_line_writer(stack.enter_context(Path(path).open("a"))))
        logs: list[StageLog] = [LineLog(*writers)]
        if _PIPES_VARIABLE in os.environ:
            from dagster_pipes import open_dagster_pipes

            pipes = stack.enter_context(open_dagster_pipes())
            logs.append(LineLog(pipes.log.info, interval=20.0))
        if run.spec.tracked and track is not None:
            logs.append(stack.enter_context(track(run)))
        yield TeeLog(logs)


def _line_writer(stream: TextIO) -> Callable[[str], None]:
    def write(line: str) -> None:
        print(line, file=stream, flush=True)

    return write
