"""The record of a run: every row on the terminal and in `gpu.json` as soon as it is measured."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any

FORMAT = 1
OWN = ("format", "status", "seconds", "goals", "checks")
"""Names in the file that are no facts of the device."""
Value = float | int | str | bool


@dataclass(frozen=True)
class Row:
    """One measurement: a name, and figures by name and unit, such as {"forward ms": 1.2}.

    `ok` says whether what must hold does; None for a figure that is neither right nor wrong.
    """

    name: str
    figures: Mapping[str, Value]
    ok: bool | None = None


@dataclass
class Outcome:
    """Outcome of one check.

    status: not run, running, passed, failed (a row is not ok), error (it raised), or out of time (its rows so far are kept).
    """

    name: str
    title: str
    status: str = "not run"
    message: str = ""
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)


class Record:
    """Everything a run has found, whole on disk at any moment."""

    def __init__(
        self, path: Path, facts: Mapping[str, Any], outcomes: Iterable[Outcome], seconds_before: float = 0.0
    ) -> None:
        """
        Args:
            path: file to write; an earlier one is replaced at once.
            facts: what was measured on: device, versions, sizes.
            outcomes: of every check, in order.
            seconds_before: of earlier processes of the same run.
        """
        self.path, self.facts = path, dict(facts)
        self.outcomes = {outcome.name: outcome for outcome in outcomes}
        self.status = "running"
        self.started = time.monotonic() - seconds_before
        self._lock = RLock()
        self.write()

    @classmethod
    def resume(cls, path: Path, facts: Mapping[str, Any], names: Sequence[str]) -> Record:
        """Return the record of a run that goes on in a new process; a check that was running counts as not run.

        Args:
            facts, names: of this process, to be compared with the record's: all but its date and minutes, and its checks.

        Raises:
            ValueError: the file holds no record, or that of another run.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            before = {name: value for name, value in values.items() if name not in OWN}
            outcomes = [Outcome(**check) for check in values["checks"]]
            seconds = float(values["seconds"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{path} holds no record of a run to go on with ({error!r}); run without --resume"
            ) from error
        same = {name: value for name, value in facts.items() if name not in ("date", "minutes")}
        other = [f"{name} {before.get(name)}, not {value}" for name, value in same.items() if before.get(name) != value]
        if [outcome.name for outcome in outcomes] != list(names):
            other.append(f"checks {', '.join(outcome.name for outcome in outcomes)}, not {', '.join(names)}")
        if other:
            raise ValueError(f"{path} is of another run ({'; '.join(other)}); run without --resume")
        begun = [Outcome(each.name, each.title) if each.status == "running" else each for each in outcomes]
        return cls(path, before, begun, seconds)

    def begin(self, name: str) -> Outcome:
        """Mark a check as running."""
        outcome = self.outcomes[name]
        outcome.status = "running"
        print(f"\n{outcome.name}: {outcome.title}", flush=True)
        self.write()
        return outcome

    def add(self, outcome: Outcome, row: Row) -> None:
        """Keep and print a row."""
        outcome.rows.append({"name": row.name, "ok": row.ok, "figures": dict(row.figures)})
        print(line_of(row), flush=True)
        self.write()

    def end(self, outcome: Outcome, status: str, message: str, seconds: float) -> None:
        """Close a check."""
        outcome.status, outcome.message, outcome.seconds = status, message, round(seconds, 1)
        print(f"  {status} after {seconds:.1f} s{': ' + message if message else ''}", flush=True)
        self.write()

    def close(self, status: str) -> None:
        """Write the last state: `finished`, or why the run stopped."""
        self.status = status
        self.write()

    def values(self) -> dict[str, Any]:
        """Return the record as plain values."""
        from perf.gpu_checks.goals import judge

        outcomes = [asdict(outcome) for outcome in self.outcomes.values()]
        return {
            "format": FORMAT,
            "status": self.status,
            "seconds": round(time.monotonic() - self.started, 1),
            **self.facts,
            "goals": judge(outcomes, judged=bool(self.facts.get("judged"))),
            "checks": outcomes,
        }

    def write(self) -> None:
        """Replace the file: a reader finds the old or the new record, never half of one."""
        with self._lock, _signals_wait():
            text = json.dumps(self.values(), indent=1) + "\n"
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_name(self.path.name + ".part")
            with part.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)


def line_of(row: Row) -> str:
    """Return a row as one line of the terminal."""
    mark = {True: "ok", False: "WRONG", None: ""}[row.ok]
    figures = "  ".join(f"{name} {shown(value)}" for name, value in row.figures.items())
    return f"  {row.name:52} {mark:5} {figures}"


def shown(value: Value | None) -> str:
    """Return a value with four digits, no more."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Hold signals back while a file is replaced, so that no handler raises half-way."""
    held = {signal.SIGALRM, signal.SIGTERM, signal.SIGINT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
