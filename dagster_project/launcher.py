"""Execute the runs of `rlip demo`: each is a Dagster run on the persistent instance, visible in the UI, in one of a few warm processes.

Dagster's own ways would cost more than a tenth of `rlip demo`. By `perf.orchestration --buckets 12 --shards 24` on two cores, a backfill of
a run per bucket through queue and daemon takes 7.4 processor seconds a bucket, and a warm process with several in a run 2.0. For the
demo's 56 items the difference is 300 of its 1,760 processor seconds, 17 %. One run with an executor cannot span the stages, for their
partitions differ.

With this module and warm commands (`rlip_assets/cli/warm_server.py`), a `make demo` of 52 items on two idle cores spends 39 s on start-up,
124 s on orchestration and 1,652 s on work: 9.0 % of the seconds of its runs, 14.4 % without warm commands. `rlip demo` prints the share.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from pathlib import Path

from dagster_project.location import Location
from dagster_project.worker import begin, run_task
from rlip_assets.cli.warm_server import warm_stages
from rlip_assets.dvc.up_to_date import LINES_FOLDER, Submit, Summary, Tell, bring_up_to_date

_LOG_BYTES = 10_000_000
"""Size from which the log of the workers is begun anew; the last one is kept."""


def launch_changed(location: Location, target: str, tell: Tell, slots: int = 2) -> Summary:
    """Launch everything that differs from `dvc.lock`, as `bring_up_to_date` says; `target` is the `module:function` of the location."""
    project, lines = location.project, location.root / LINES_FOLDER

    @contextmanager
    def workers(changed: set[str]) -> Iterator[Submit]:
        with (
            warm_stages(location.registry, changed, lines),
            _processes(target, lines / "workers.log", slots) as pool,
        ):
            yield lambda task: pool.submit(run_task, task)

    def neighbours(address: str) -> list[str]:
        return [item.address for item in project.stage_of[address].items]

    return bring_up_to_date(location.registry, location.root, neighbours, workers, tell, slots)


@contextmanager
def _processes(target: str, log: Path, slots: int) -> Iterator[ProcessPoolExecutor]:
    """Yield warm worker processes; those that are at work when something fails are interrupted, which ends DVC and its stage too."""
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".old.log"))
    pool = ProcessPoolExecutor(slots, get_context("spawn"), begin, (target, log, os.getpid()))
    try:
        yield pool
    except BaseException:
        for worker in active_children():
            os.kill(int(worker.pid or 0), signal.SIGINT)
        raise
    finally:
        pool.shutdown(cancel_futures=True)
