"""Engines that make shards: this process, worker processes of this machine, or the actors of a Ray cluster.

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
from rlip_assets.lineage.watchdog import end_with_process
from rlip_assets.storage.errors import InputError, TransientError, UnavailableError

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
        TransientError: a worker process died; finished shards are kept.
    """
    if execution.engine == "here" or not tasks:
        return map(work, tasks)
    if execution.engine == "processes":
        return _on_processes(work, tasks, execution, tick)
    return _on_ray(work, tasks, execution, tick)


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


class _Actor:
    """A worker on a Ray cluster."""

    def __init__(self, work: Work[Any, Any]) -> None:
        self.work = work

    def do(self, task: Any) -> Any:
        return self.work(task)


def _local(execution: ExecutionParams) -> dict[str, Any]:
    """Return a Ray cluster of this machine alone. Its workers have this process's priority: by default Ray gives them the lowest,
    so on a busy machine they are starved."""
    return {
        "num_cpus": execution.workers + 1,
        "include_dashboard": False,
        "_system_config": {"worker_niceness": 0},
    }


def _on_ray(
    work: Work[Task, Result], tasks: Sequence[Task], execution: ExecutionParams, tick: Tick
) -> Iterator[Result]:
    try:
        import ray
        from ray.util import ActorPool
    except ImportError:
        raise InputError(
            "execution.engine is ray, which is not installed; `pip install -e '.[ray]'` or choose processes"
        ) from None
    own = not ray.is_initialized()
    if own:
        try:
            ray.init(
                address=execution.ray_address,
                log_to_driver=False,
                **({} if execution.ray_address else _local(execution)),
            )
        except ConnectionError as error:
            raise UnavailableError(
                f"no Ray cluster at execution.ray_address {execution.ray_address} ({error})"
            ) from None
    try:
        actor = ray.remote(num_cpus=execution.cpus_per_worker, num_gpus=execution.gpus_per_worker)(_Actor)
        sent = ray.put(work)
        pool: Any = ActorPool([actor.remote(sent) for _ in range(min(execution.workers, len(tasks)))])
        for task in tasks:
            pool.submit(lambda one, task: one.do.remote(task), task)
        while pool.has_next():
            try:
                yield pool.get_next(timeout=_TICK_SECONDS)
            except TimeoutError:
                tick()
    finally:
        if own:
            ray.shutdown()
