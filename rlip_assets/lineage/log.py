"""The log of a running stage: plain lines for people, the tracking store, and Dagster where it is the one who asked.

A stage reports once; each listener takes what it can show.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn

from rlip_assets.lineage.context import NullLog, StageLog
from rlip_assets.lineage.stage_run import StageRun

if TYPE_CHECKING:
    from PIL.Image import Image

LINES_VARIABLE = "RLIP_LINES_FILE"
"""File to which lines are appended as well; `rlip demo` reads it to show the progress of stages that run side by side."""
_REFRESH_SECONDS = 0.2
_PIPES_VARIABLE = "DAGSTER_PIPES_CONTEXT"
Tracker = Callable[[StageRun, Callable[[str], None]], AbstractContextManager[StageLog]]
"""Opens a run in the tracking store; what it has to tell people goes to the second argument."""


class LineLog(NullLog):
    """Plain lines to listeners; progress at most every `interval` seconds, with rate and remaining time."""

    def __init__(
        self,
        *writers: Callable[[str], None],
        interval: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        console: Console | None = None,
    ) -> None:
        self._writers, self._interval, self._clock = writers, interval, clock
        self._progress = Progress(
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
            speed_estimate_period=inf,
            get_time=clock,
        )
        self._reported = clock()
        self._said: tuple[int, int, str] | None = None

    def info(self, message: str) -> None:
        for write in self._writers:
            write(message)

    def progress(self, done: int, total: int, unit: str) -> None:
        task = self._phase(done, total, unit)
        now = self._clock()
        said, self._said = self._said, (done, total, unit)
        if (now - self._reported < self._interval and done < total) or (done >= total and said == self._said):
            return
        self._reported = now
        speed = f", {task.speed:.1f} {unit}/s" if task.speed else ""
        left = f", {task.time_remaining:.0f} s left" if speed and done < total else ""
        self.info(f"{done}/{total} {unit}{speed}{left}")

    def close(self) -> None:
        """Remove what is drawn on a terminal."""
        self._progress.live.stop()

    def _phase(self, done: int, total: int, unit: str) -> Task:
        """Record progress; other units, another total or fewer units done begin a phase, and its estimate, anew."""
        task = self._progress.tasks[0] if self._progress.tasks else None
        if task is not None and (task.description, task.total) == (unit, total) and done >= task.completed:
            self._progress.update(task.id, completed=done)
        else:
            if task is not None:
                self._progress.remove_task(task.id)
            self._progress.add_task(unit, total=total, completed=done)
        return self._progress.tasks[0]


class TerminalLog(LineLog):
    """The same on a terminal: a bar while a phase lasts, and a line at its end."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(self._print, interval=inf, clock=clock, console=console)
        self._drawn = -inf

    def progress(self, done: int, total: int, unit: str) -> None:
        super().progress(done, total, unit)
        if done >= total:
            self.close()
        elif self._clock() - self._drawn > _REFRESH_SECONDS:
            self._drawn = self._clock()
            self._progress.start()
            self._progress.refresh()

    def _print(self, message: str) -> None:
        self._progress.console.print(message, markup=False, highlight=False, soft_wrap=True)


class TeeLog(StageLog):
    """Passes every report to several logs."""

    def __init__(self, logs: list[StageLog]) -> None:
        self._logs = logs

    @property
    def run_id(self) -> str | None:
        """The MLflow run, None where there is none (yet)."""
        return self._told("run_id")

    @property
    def experiment_id(self) -> str | None:
        """The MLflow experiment of the run."""
        return self._told("experiment_id")

    @property
    def tracking_key(self) -> str | None:
        """The name of the run in the project, known before the store knows it."""
        return self._told("tracking_key")

    def _told(self, name: str) -> str | None:
        return next((getattr(log, name) for log in self._logs if hasattr(type(log), name)), None)

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

    def model(self, folder: Path) -> None:
        for log in self._logs:
            log.model(folder)


def open_terminal_log() -> LineLog:
    """Return a log on standard error: a bar on a terminal, plain lines elsewhere."""
    console = Console(stderr=True)
    return TerminalLog(console) if console.is_terminal else LineLog(_line_writer(sys.stderr))


@contextmanager
def open_stage_log(run: StageRun, track: Tracker | None = None) -> Iterator[TeeLog]:
    """Open the log of one run, with every listener that is there; `track` opens that of a tracked stage in the tracking store."""
    with ExitStack() as stack:
        terminal = open_terminal_log()
        logs: list[StageLog] = [terminal]
        stack.callback(terminal.close)
        if path := os.environ.get(LINES_VARIABLE):
            logs.append(LineLog(_line_writer(stack.enter_context(Path(path).open("a")))))
        if _PIPES_VARIABLE in os.environ:
            from dagster_pipes import open_dagster_pipes

            pipes = stack.enter_context(open_dagster_pipes())
            logs.append(LineLog(pipes.log.info, interval=20.0))
        if run.spec.tracked and track is not None:
            logs.append(stack.enter_context(track(run, TeeLog(logs).info)))
        yield TeeLog(logs)


def _line_writer(stream: TextIO) -> Callable[[str], None]:
    def write(line: str) -> None:
        print(line, file=stream, flush=True)

    return write


class LineReader:
    """The lines that a stage writes to its lines file, which is emptied first."""

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    def new(self) -> list[str]:
        """Return the complete lines since the last call."""
        with self._path.open("rb") as stream:
            stream.seek(self._read)
            content = stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        return [line for line in whole.decode(errors="replace").splitlines() if line.strip()]
