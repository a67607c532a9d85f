"""Cost of orchestration: Dagster and DVC around 2,000 shards in 64 buckets that do no work.

    python -m perf.orchestration [--buckets 64] [--shards 2000] [--runs 64] [--folder DIR] [--json out.json]

Measured, each as a command that a person would give:

* loading the definitions in a new process;
* `dvc status` when there is nothing to do;
* a backfill of all buckets as a single run: one Dagster run, one DVC process (`execution.buckets_per_run: null`);
* a backfill of a run per bucket, through the daemon and its queue with the limits of `dagster_home/dagster.yaml`; `--runs` takes only
  that many of the buckets;
* one more bucket by `dvc repro --single-item` where `dvc.lock` has 700 other entries, as in a profile of three datasets in 64 buckets: DVC
  reads and writes that file for each.

Cost is given in seconds of the clock and in processor seconds of all processes together: a busy machine stretches the first. Runs
go side by side, so seconds of the clock a bucket are those of the whole backfill divided by the buckets. Bar: less than 5 % of an
hour a bucket, that is 180 seconds of the clock.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import psutil
import typer
import yaml

from perf.command import JsonFile, run_command
from perf.empty_lineage import ROOT_VARIABLE, change_seed, make_project

if TYPE_CHECKING:
    from dagster import DagsterInstance

HERE = Path(__file__).resolve().parent
HOUR, BAR = 3600, 0.05
OTHER_ENTRIES = 700
_SET_CHILD_SUBREAPER = 36
Cost = tuple[float, float]
"""Seconds of the clock, processor seconds."""


def environment(root: Path, home: Path, buckets_per_run: int) -> dict[str, str]:
    """Variables under which Dagster, DVC and the stage find each other. `buckets_per_run`: 0 for a single run."""
    return {
        **os.environ,
        ROOT_VARIABLE: str(root),
        "EMPTY_LINEAGE_BUCKETS_PER_RUN": str(buckets_per_run),
        "DAGSTER_HOME": str(home),
        "DVC_NO_ANALYTICS": "1",
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def measure(work: Callable[[], object]) -> Cost:
    """Return the cost of `work` and of the processes it waits for."""
    began, before = time.monotonic(), os.times()
    work()
    after = os.times()
    processor = sum(after[:4]) - sum(before[:4])
    return time.monotonic() - began, processor


def command(words: Sequence[str], root: Path, variables: Mapping[str, str]) -> str:
    """Run a Python module or program text; its output, RuntimeError with the last lines where it fails."""
    result = subprocess.run(
        [sys.executable, *words], cwd=root, env=dict(variables), capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise RuntimeError(
            f"{' '.join(words)} ended with {result.returncode}: {(result.stdout + result.stderr)[-2000:]}"
        )
    return result.stdout


def adopt_orphans() -> None:
    """Processes whose parent ends become ours (on Linux), so that their processor seconds are counted when they end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def finished_runs(instance: DagsterInstance) -> tuple[int, int]:
    """Runs that ended well, and runs that failed."""
    from dagster import DagsterRunStatus, RunsFilter

    good, bad = (
        instance.get_runs_count(RunsFilter(statuses=[status]))
        for status in (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE)
    )
    return good, bad


def backfill_by_run(root: Path, variables: Mapping[str, str], runs: int, log: Path) -> None:
    """A run per bucket, from the start of the daemon to the end of the last run."""
    from dagster import DagsterInstance

    with DagsterInstance.from_config(variables["DAGSTER_HOME"]) as instance, log.open("w") as stream:
        begun = finished_runs(instance)[0]
        daemon = subprocess.Popen(
            [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-m", "perf.empty_lineage"],
            cwd=root,
            env=dict(variables),
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            words = ["-m", "dagster", "job", "backfill", "-m", "perf.empty_lineage", "-j", "work_job", "--noprompt"]
            partitions = ",".join(f"bucket-{n}" for n in range(runs))
            command([*words, "--partitions", partitions], root, variables)
            while True:
                good, bad = finished_runs(instance)
                if bad:
                    raise RuntimeError(f"{bad} runs failed; the daemon's log is {log}")
                if good - begun >= runs:
                    break
                if daemon.poll() is not None:
                    raise RuntimeError(f"the daemon ended with {daemon.returncode}; its log is {log}")
                time.sleep(1)
        finally:
            _end(daemon)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    """End the daemon and all that it has started, and wait for them."""
    children = psutil.Process(daemon.pid).children(recursive=True) if daemon.poll() is None else []
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(timeout=60)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    with suppress(ChildProcessError):
        while os.waitpid(-1, 0):
            pass


def add_entries(root: Path, count: int) -> None:
    """Put entries of other stages into `dvc.lock`, each with as much to say as one of pseudo labels."""
    lock = yaml.safe_load((root / "dvc.lock").read_text())
    for number in range(count):
        paths = [f"data/{name}/objects365/bucket-{number}" for name in ("scenes", "candidates", "classes", "labels")]
        files = [{"path": p, "hash": "md5", "md5": f"{number:032x}.dir", "size": 1, "nfiles": 4} for p in paths]
        settings = {"params.yaml": {f"tagging.setting_{n}": n for n in range(20)}}
        entry = {"cmd": f"true {number}", "deps": files[:3], "params": settings, "outs": files[3:]}
        lock["stages"][f"other@{number}"] = entry
    (root / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))


def main(
    bucket_count: Annotated[int, typer.Option("--buckets")] = 64,
    shards: int = 2000,
    by_run: Annotated[
        int | None, typer.Option("--runs", help="Buckets of the backfill by runs; all by default.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Empty folder to keep the project in; by default a temporary one.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Print the figures."""
    runs = min(by_run or bucket_count, bucket_count)
    base = folder or Path(tempfile.mkdtemp(prefix="orchestration-"))
    root, home = base / "project", base / "dagster_home"
    home.mkdir(parents=True)
    shutil.copy(HERE.parent / "dagster_home" / "dagster.yaml", home)
    make_project(root, bucket_count, shards)
    single, apart = (environment(root, home, number) for number in (0, 1))
    everything = f"bucket-0...bucket-{bucket_count - 1}"
    costs: dict[str, Cost] = {}

    buckets: dict[str, int] = {}

    def step(name: str, work: Callable[[], object], share: int = 0) -> None:
        """Measure a step; `share`: the buckets that it makes."""
        cost = costs[name] = measure(work)
        row = f"{name:58}{cost[0]:9.1f}{cost[1]:11.1f}"
        if share:
            buckets[name] = share
            each = cost[0] / share
            row += f"{each:11.1f}{cost[1] / share:11.1f}{100 * each / HOUR:10.2f}  {'met' if each < BAR * HOUR else 'MISSED'}"
        print(row, flush=True)

    adopt_orphans()
    print(f"{shards} shards in {bucket_count} buckets; {platform.machine()}, {os.cpu_count()} cores, "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
    print(f"{'':58}{'clock s':>9}{'processor':>11}{'clock a':>11}{'processor':>11}{'% of an':>10}  bar 5 %")
    print(f"{'':58}{'':>9}{'s':>11}{'bucket s':>11}{'s a bucket':>11}{'hour':>10}")
    load = "from perf.empty_lineage import definitions; definitions().resolve_asset_graph()"
    materialise = ["-m", "dagster", "asset", "materialize", "-m", "perf.empty_lineage", "--select", "empty/work"]
    by_item = ["-m", "dvc", "repro", "--single-item", "work@bucket-0"]
    step("definitions load", lambda: command(["-c", load], root, apart))
    step(
        "single run: one Dagster run and DVC process for all",
        lambda: command([*materialise, "--partition-range", everything], root, single),
        bucket_count,
    )
    status: list[str] = []
    step("dvc status with nothing to do", lambda: status.append(command(["-m", "dvc", "status"], root, apart)))
    if "up to date" not in status[0]:
        raise RuntimeError(f"dvc status finds something to do: {status[0][:500]}")
    change_seed(root, 7)
    step(f"a run per bucket, {runs} of them", lambda: backfill_by_run(root, apart, runs, base / "daemon.log"), runs)
    made = sum(len((root / f"data/bucket-{n}/shards.txt").read_text().split()) for n in range(bucket_count))
    change_seed(root, 8)
    add_entries(root, OTHER_ENTRIES)
    step(f"dvc repro of a bucket beside {OTHER_ENTRIES} other entries", lambda: command(by_item, root, apart), 1)
    worst = max(costs[name][0] / share for name, share in buckets.items())
    print(f"{made} shards made; at most {worst:.1f} s a bucket, {100 * worst / HOUR:.2f} % of an hour "
          f"(bar {100 * BAR:.0f} %: {'met' if worst < BAR * HOUR else 'missed'})")  # fmt: skip
    if json_file:
        figures = {
            name: {"seconds": cost[0], "processor_seconds": cost[1], "buckets": buckets.get(name, 0)}
            for name, cost in costs.items()
        }
        machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
        json_file.write_text(json.dumps({"shards": made, "machine": machine, "costs": figures}, indent=2) + "\n")
    if folder is None:
        shutil.rmtree(base)


if __name__ == "__main__":
    run_command(main)
