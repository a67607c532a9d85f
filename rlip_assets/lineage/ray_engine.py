"""The engine `ray`: actors on a cluster make shards; whoever is lost, with its node or alone, is replaced.

An actor takes tasks when it has started, so that a cluster with less room than `execution.workers` works with those that fit, and a task
whose actor was lost goes to the next free one. A shard that is lost with three workers in a row is what kills them.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rlip_assets.lineage.params.execution import ExecutionParams
from rlip_assets.storage.errors import InputError, TransientError, UnavailableError

_LOG = logging.getLogger(__name__)
_TICK_SECONDS, _PATIENCE_SECONDS = 1.0, 60.0
_TRIES = 3


def work_on_ray(
    work: Callable[[Any], Any], tasks: Sequence[Any], execution: ExecutionParams, tick: Callable[[], None]
) -> Iterator[Any]:
    """Yield `work` of each task, in the order of the tasks; see `engines.run`.

    Raises:
        InputError: Ray is not installed.
        UnavailableError: its cluster cannot be reached.
        TransientError: workers were lost again and again; finished shards are kept.
    """
    try:
        import ray
    except ImportError:
        raise InputError(
            "execution.engine is ray, which is not installed; `pip install -e '.[ray]'` or choose processes"
        ) from None
    with _connected(ray, execution):
        yield from _Crew(ray, work, min(execution.workers, len(tasks)), execution).results(tasks, tick)


class _Actor:
    """A worker on a Ray cluster."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work

    def start(self) -> None:
        """Answer when the worker is there."""

    def do(self, task: Any) -> Any:
        return self.work(task)


class _Crew:
    """The actors of one stage, each of which has one call at a time: its start, or the task of a number."""

    def __init__(self, ray: Any, work: Callable[[Any], Any], size: int, execution: ExecutionParams) -> None:
        self._ray, self._size = ray, size
        self._actor = ray.remote(num_cpus=execution.cpus_per_worker, num_gpus=execution.gpus_per_worker)(_Actor)
        self._work = ray.put(work)
        self._calls: dict[Any, tuple[Any, int | None]] = {}
        self._idle: list[Any] = []
        self._lost = Counter[int | None]()

    def results(self, tasks: Sequence[Any], tick: Callable[[], None]) -> Iterator[Any]:
        """Yield the result of each task in order; `tick` is called every second."""
        waiting, finished, following = deque(range(len(tasks))), dict[int, Any](), 0
        for _ in range(self._size):
            self._hire()
        patience = time.monotonic() + _PATIENCE_SECONDS
        while following < len(tasks):
            while waiting and self._idle:
                number, actor = waiting.popleft(), self._idle.pop()
                self._calls[actor.do.remote(tasks[number])] = actor, number
            ended, _ = self._ray.wait(list(self._calls), timeout=_TICK_SECONDS)
            if not ended:
                tick()
                starting = all(number is None for _, number in self._calls.values())
                if waiting and starting and time.monotonic() > patience:
                    _LOG.warning("no worker has started: is there room for execution.cpus_per_worker on the cluster?")
                    patience = float("inf")
                continue
            patience = time.monotonic() + _PATIENCE_SECONDS
            actor, done = self._calls.pop(ended[0])
            try:
                result = self._ray.get(ended[0])
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, Exception) else error from None
            except self._ray.exceptions.RayError as error:
                self._replace(actor, done, error)
                waiting.extendleft(() if done is None else (done,))
                continue
            self._idle.append(actor)
            if done is not None:
                finished[done] = result
            while following in finished:
                yield finished.pop(following)
                following += 1

    def _hire(self) -> None:
        actor = self._actor.remote(self._work)
        self._calls[actor.start.remote()] = actor, None

    def _replace(self, actor: Any, number: int | None, error: Exception) -> None:
        """Put another in the place of a lost worker.

        Raises:
            TransientError: too many were lost with the same task, or at their start.
        """
        self._lost[number] += 1
        if self._lost[number] >= _TRIES * (self._size if number is None else 1):
            raise TransientError(
                f"Ray workers were lost {self._lost[number]} times {'at their start' if number is None else 'at the same shard'} "
                f"({(str(error).splitlines() or [type(error).__name__])[0]}); were they killed for memory? Lower execution.workers; "
                "finished shards are kept, so the same command goes on from there"
            ) from None
        _LOG.warning("a Ray worker was lost; another takes its place")
        for idle in self._idle:  # with its node, perhaps: it works again once it answers
            self._calls[idle.start.remote()] = idle, None
        self._idle.clear()
        self._ray.kill(actor)  # one that is only out of reach must not go on
        self._hire()


@contextmanager
def _connected(ray: Any, execution: ExecutionParams) -> Iterator[None]:
    """Connect to the cluster for the time of the block, unless the process is connected."""
    if ray.is_initialized():
        yield
        return
    # alone on this machine, workers have this process's priority: by default Ray gives them the lowest, so that a busy machine starves them
    alone = {
        "num_cpus": execution.workers + 1,
        "include_dashboard": False,
        "_system_config": {"worker_niceness": 0},
    }
    try:
        ray.init(
            address=execution.ray_address or "local", log_to_driver=False, **({} if execution.ray_address else alone)
        )
    except ConnectionError as error:
        raise UnavailableError(f"no Ray cluster at execution.ray_address {execution.ray_address} ({error})") from None
    try:
        yield
    finally:
        ray.shutdown()
