"""What orchestration costs: Dagster and DVC around 2,000 shards in 64 buckets that do no work.

    python benchmarks/orchestration.py [--buckets 64] [--shards 2000] [--runs 64] [--folder DIR] [--json out.json]

Measured, each as a command that a person would give:

* loading the definitions in a new process;
* `dvc status` when there is nothing to do;
* a backfill of all buckets as a single run: one Dagster run, one DVC process (`execution.buckets_per_run: null`);
* a backfill of a run per bucket, through the daemon and its queue with the limits of `dagster_home/dagster.yaml`; `--runs` takes only
  that many of the buckets.

Cost is given in seconds of the clock and in processor seconds of all processes together: a busy machine stretches the first. Bar: less
than 5 % of an hour a bucket, that is 180 seconds of the clock.
"""

from __future__ import annotations

import argparse
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
from pathlib import Path

import psutil
from empty_lineage import ROOT_VARIABLE, change_seed, make_project

HERE = Path(__file__).resolve().parent
BAR_SECONDS = 0.05 * 3600
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
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def measure(work: Callable[[], None]) -> Cost:
    """What `work` and the processes it waits for cost."""
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


def finished_runs(variables: Mapping[str, str]) -> tuple[int, int]:
    """Runs that ended well, and runs that failed."""
    from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

    with DagsterInstance.from_config(variables["DAGSTER_HOME"]) as instance:
        counts = [
            instance.get_runs_count(RunsFilter(statuses=[status]))
            for status in (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE)
        ]
    return counts[0], counts[1]


def backfill_by_run(root: Path, variables: Mapping[str, str], runs: int, log: Path) -> Cost:
    """A run per bucket: the clock from the backfill's command to the end of the last run, the daemon's start apart."""
    begun = finished_runs(variables)[0]
    with log.open("w") as stream:
        daemon = subprocess.Popen(
            [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-m", "empty_lineage"],
            cwd=root,
            env=dict(variables),
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        words = ["-m", "dagster", "job", "backfill", "-m", "empty_lineage", "-j", "work_job", "--noprompt"]
        partitions = ",".join(f"bucket-{n}" for n in range(runs))
        began, before = time.monotonic(), os.times()
        command([*words, "--partitions", partitions], root, variables)
        while True:
            good, bad = finished_runs(variables)
            if bad:
                raise RuntimeError(f"{bad} runs failed; the daemon's log is {log}")
            if good - begun >= runs:
                break
            if daemon.poll() is not None:
                raise RuntimeError(f"the daemon ended with {daemon.returncode}; its log is {log}")
            time.sleep(1)
        seconds = time.monotonic() - began
    finally:
        _end(daemon)
    after = os.times()
    return seconds, sum(after[:4]) - sum(before[:4])


def _end(daemon: subprocess.Popen[bytes]) -> None:
    """End the daemon and its children, so that their processor seconds are counted as ours."""
    children = psutil.Process(daemon.pid).children(recursive=True) if daemon.poll() is None else []
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(timeout=60)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
    for child in children:
        if child.is_running():
            child.kill()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--buckets", type=int, default=64)
    parser.add_argument("--shards", type=int, default=2000)
    parser.add_argument("--runs", type=int, help="buckets of the backfill by runs; all by default")
    parser.add_argument(
        "--folder", type=Path, help="an empty folder to keep the project in; by default a temporary one"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    runs = min(options.runs or options.buckets, options.buckets)
    base = options.folder or Path(tempfile.mkdtemp(prefix="orchestration-"))
    root, home = base / "project", base / "dagster_home"
    home.mkdir(parents=True)
    shutil.copy(HERE.parent / "dagster_home" / "dagster.yaml", home)
    make_project(root, options.buckets, options.shards)
    single, apart = (environment(root, home, number) for number in (0, 1))
    everything = f"bucket-0...bucket-{options.buckets - 1}"
    costs: dict[str, Cost] = {}

    def step(name: str, cost: Cost, share: int = 1) -> None:
        costs[name] = cost
        each = f", {cost[0] / share:.1f} s and {cost[1] / share:.1f} s a bucket" if share > 1 else ""
        print(f"{name:44}{cost[0]:8.1f} s of the clock, {cost[1]:7.1f} s of processors{each}", flush=True)

    load = "from empty_lineage import definitions; definitions().resolve_asset_graph()"
    materialise = ["-m", "dagster", "asset", "materialize", "-m", "empty_lineage", "--select", "empty/work"]
    step("definitions load", measure(lambda: _ignore(command(["-c", load], root, apart))))
    step(
        "backfill as a single run",
        measure(lambda: _ignore(command([*materialise, "--partition-range", everything], root, single))),
        options.buckets,
    )
    status: list[str] = []
    step("dvc status with nothing to do", measure(lambda: status.append(command(["-m", "dvc", "status"], root, apart))))
    if "up to date" not in status[0]:
        raise RuntimeError(f"dvc status finds something to do: {status[0][:500]}")
    change_seed(root, 7)
    step(f"backfill by a run per bucket, {runs} of them", backfill_by_run(root, apart, runs, base / "daemon.log"), runs)
    made = sum(len((root / f"data/bucket-{n}/shards.txt").read_text().split()) for n in range(options.buckets))
    by_run = list(costs.values())[-1]
    worst = max(costs["backfill as a single run"][0] / options.buckets, by_run[0] / runs)
    print(f"{made} shards; at most {worst:.1f} s a bucket, {worst / 36:.2f} % of an hour "
          f"(bar 5 %: {'met' if worst < BAR_SECONDS else 'missed'})")  # fmt: skip
    if options.json:
        figures = {name: {"seconds": c[0], "processor_seconds": c[1]} for name, c in costs.items()}
        machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
        options.json.write_text(json.dumps({"shards": made, "machine": machine, "costs": figures}, indent=2) + "\n")
    if options.folder is None:
        shutil.rmtree(base)


def _ignore(_: object) -> None:
    """Measured work gives nothing."""


if __name__ == "__main__":
    main()
