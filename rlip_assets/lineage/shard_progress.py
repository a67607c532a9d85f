"""Progress inside a shard, whichever process makes it: a maker tells `rows_done`, the stage adds up what all makers told.

Each shard at work has a file beside it with one byte per finished row, since engines share nothing but the folder of the shards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

SUFFIX = ".rows"
_SECONDS = 0.2
"""Between two writes of a maker."""


@dataclass
class _AtWork:
    """The shard that this thread makes."""

    file: Path
    tick: Callable[[], None]
    waiting: int = 0
    written: float = field(default_factory=time.monotonic)

    def add(self, number: int) -> None:
        self.waiting += number
        if time.monotonic() - self.written >= _SECONDS:
            self.write()
            self.tick()

    def write(self) -> None:
        with self.file.open("ab") as stream:
            stream.write(b"." * self.waiting)
        self.waiting, self.written = 0, time.monotonic()


_at_work: ContextVar[_AtWork | None] = ContextVar("shard at work", default=None)


def rows_done(number: int = 1) -> None:
    """Tell that some rows of the shard that is being made are finished; nothing outside of one."""
    if (work := _at_work.get()) is not None:
        work.add(number)


@contextmanager
def counting_rows(shard: Path, tick: Callable[[], None]) -> Iterator[None]:
    """Count the rows that are told inside of the block, of the shard whose folder will be `shard`; `tick` is called after each write."""
    file = shard.with_name(f"{shard.name}{SUFFIX}")
    file.unlink(missing_ok=True)
    work = _AtWork(file, tick)
    token = _at_work.set(work)
    try:
        yield
        work.write()
    finally:
        _at_work.reset(token)


def finished_rows(store: Path, rows: Mapping[str, int]) -> int:
    """Return the number of finished rows of shards that are not whole yet; `rows` maps their names to how many they have."""
    told = 0
    for name, number in rows.items():
        try:
            told += min((store / f"{name}{SUFFIX}").stat().st_size, number)
        except FileNotFoundError:
            continue
    return told
