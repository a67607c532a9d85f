"""Items that worker processes make, in order; those made so far are used while the rest are on their way."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")
CHUNK = 16


class Stream(Generic[Item]):
    """A growing list of `make(first)`, `make(first + 1)`, ...; a context manager, which ends the workers.

    Args:
        make: picklable; item number to item.
        workers: processes; 0 makes every item at once, here.
    """

    def __init__(self, make: Callable[[int], Item], count: int, workers: int, first: int = 0) -> None:
        self.count = count
        self._items: list[Item] = []
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._pool: ProcessPoolExecutor | None = None
        if workers == 0:
            self._items = [make(number) for number in range(first, first + count)]
            return
        # Fresh processes: a forked copy of one that uses threads or a GPU may hang.
        self._pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _be_nice)
        made = self._pool.map(make, range(first, first + count), chunksize=CHUNK)
        threading.Thread(target=self._collect, args=(made,), daemon=True).start()

    def __len__(self) -> int:
        """Return the number of items made so far."""
        return len(self._items)

    def __getitem__(self, number: int) -> Item:
        return self._items[number]

    def wait(self, count: int) -> None:
        """Wait until `count` items are there. Raises what making one of them raised, or that a worker died."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) >= min(count, self.count) or self._error is not None)
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Stream[Item]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _collect(self, made: Iterable[Item]) -> None:
        try:
            for item in made:
                self._items.append(item)
                with self._changed:
                    self._changed.notify_all()
        except Exception as error:
            self._error = error
            with self._changed:
                self._changed.notify_all()


def _be_nice() -> None:
    """Workers give way to the process that trains."""
    os.nice(5)
