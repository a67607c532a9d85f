"""Engines that make shards: this process, worker processes of this machine, or the actors of a Ray cluster (`ray_engine.py`).

An engine sends the work (a function with what it needs, such as the name of a model) to each worker once and a shard at a time after
that, and gives results in the order of the shards. Which shards are there already, and that a shard is whole, is the store's business
(`shards.py`), so a worker or an engine may die at any moment.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from rlip_assets.lineage.params.execution import ExecutionParams
from rlip_assets.lineage.ray_engine import work_on_ray
from rlip_assets.lineage.watchdog import end_with_process
from rlip_assets.storage.errors import TransientError

Task = TypeVar("Task")
Result = TypeVar("Result")
Work = Callable[[Task], Result]
Tick = Callable[[], None]
_TICK_SECONDS = 1.0

_work: Any = None
"""The work of this worker process."""


def _ignore() -> None:
    """Do nothing while waiting."""


def run(
    work: Work[Task, Result], tasks: Sequence[Task], execution: ExecutionParams, tick: Tick = _ignore
) -> Iterator[Result]:
    """Yield `work` of each task, in the order of the tasks, on the engine that `execution` names.

    Args:
        tick: called every second while other processes work.

    Raises:
        InputError: Ray is chosen and not installed, or its cluster cannot be reached.
        TransientError: a worker process died, or Ray workers again and again; finished shards are kept.
    """
    if execution.engine == "here" or not tasks:
        return map(work, tasks)
    if execution.engine == "processes":
        return _on_processes(work, tasks, execution, tick)
    return work_on_ray(work, tasks, execution, tick)


def _on_processes(
    work: Work[Task, Result], tasks: Sequence[Task], execution: ExecutionParams, tick: Tick
) -> Iterator[Result]:
    context = multiprocessing.get_context("spawn")
    workers = min(execution.workers, len(tasks))
    number = context.Value("i", 0)
    with ProcessPoolExecutor(workers, context, _receive, (work, number, os.getpid())) as pool:
        try:
            for future in [pool.submit(_do, task) for task in tasks]:
                while not wait([future], _TICK_SECONDS).done:
                    tick()
                yield future.result()
        except BrokenProcessPool:
            raise TransientError(
                "a worker process ended; was it killed for memory? Lower execution.workers; finished shards are kept, so the same "
                "command goes on from there"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _receive(work: Work[Any, Any], number: Any, parent: int) -> None:
    """Start of a worker process: its GPU is the one of its number, and it ends with the stage."""
    global _work
    _work = work
    with number.get_lock():
        os.environ["LOCAL_RANK"] = str(number.value)
        number.value += 1
    end_with_process(parent)


def _do(task: Any) -> Any:
    return _work(task)
