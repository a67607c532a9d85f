"""Cost of starting: definitions, a materialisation that finds nothing to do, and commands with and without the warm server.

    python -m perf.start_up [--tries 3] [--items 400]

Each figure is the least of some tries, in processor seconds of all processes together, which on an idle machine are the seconds of the
clock. Bars: definitions of this project load in under 3 s and those of a DVC project with 400 items in under 5 s; a materialisation of
what is current costs what DVC itself takes, and at most 1 s.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from perf.command import run_command
from perf.empty_lineage import make_project
from perf.orchestration import command, environment, measure
from rlip_assets.cli import warm_client
from rlip_assets.cli.warm_server import warm_commands
from rlip_assets.lineage.profiles import DEFAULT_PROFILE, PROJECT_ROOT, profile_root
from rlip_assets.lineage.registry import load_registry

LOAD = "from dagster_project.location import active_location; active_location().job"
LOAD_ITEMS = "from perf.empty_lineage import definitions; definitions().resolve_asset_graph()"
NOTHING_TO_DO = """
import os
import dagster as dg
from perf.empty_lineage import definitions
job, key = definitions().resolve_implicit_global_asset_job_def(), dg.AssetKey(["empty", "work"])
with dg.DagsterInstance.get() as instance:
    def run():
        result = job.execute_in_process(instance=instance, partition_key="bucket-0", asset_selection=[key])
        assert result.success
    run()
    before = os.times()
    for _ in range({tries}):
        run()
    print((sum(os.times()[:4]) - sum(before[:4])) / {tries})
"""


def least(words: Sequence[str], root: Path, variables: Mapping[str, str], tries: int) -> float:
    """Return the processor seconds of a Python command, by the best of some tries."""
    return min(measure(lambda: command(words, root, variables))[1] for _ in range(tries))


def clock(program: Sequence[str], words: Sequence[str], root: Path, tries: int) -> float:
    """Return the seconds of the clock of a command, by the best of some tries; the work of a warm one is not this process's child."""
    call = [*program, *words]
    return min(
        measure(lambda: subprocess.run(call, cwd=root, check=True, capture_output=True))[0] for _ in range(tries)
    )


def warm(words: Sequence[str], root: Path, tries: int) -> float:
    """Return the seconds of the clock of a warm DVC command."""
    with tempfile.TemporaryDirectory() as folder, warm_commands([], log := Path(folder) / "log"):
        until = time.monotonic() + 300
        while not Path(os.environ[warm_client.WARM_VARIABLE]).exists():
            if time.monotonic() > until:
                raise RuntimeError(f"the warm server does not start: {log.read_text()[-500:]}")
            time.sleep(0.1)
        return clock([sys.executable, "-m", warm_client.__name__, "dvc"], words, root, tries)


def verdict(seconds: float, bar: float) -> str:
    """Return how a figure stands to its bar."""
    return f"bar {bar:.0f} s: {'met' if seconds <= bar else 'MISSED'}"


def main(tries: int = 3, items: int = 400) -> None:
    """Print the figures."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="start-up-") as folder:
        root, home = Path(folder) / "project", Path(folder) / "dagster_home"
        home.mkdir()
        variables = environment(root, home, 1)
        loaded = least(["-c", LOAD], PROJECT_ROOT, variables, tries)
        print(f"{'definitions of this project':52}{loaded:8.2f} s  {verdict(loaded, 3)}", flush=True)
        make_project(root, items, items)
        loaded = least(["-c", LOAD_ITEMS], root, variables, tries)
        print(f"{f'definitions of {items} items':52}{loaded:8.2f} s  {verdict(loaded, 5)}", flush=True)
        bucket = ["repro", "--single-item", "work@bucket-0"]
        command(["-m", "dvc", *bucket], root, variables)
        alone = least(["-m", "dvc", *bucket], root, variables, tries)
        inside = float(command(["-c", NOTHING_TO_DO.format(tries=tries)], root, variables).split()[-1])
        more = inside - alone
        print(f"{'DVC finds one of them current':52}{alone:8.2f} s")
        print(f"{'a materialisation of it':52}{inside:8.2f} s  {more:.2f} s more, {verdict(more, 1)}", flush=True)
        for way, seconds in (
            ("by itself", clock([sys.executable, "-m", "dvc"], bucket, root, tries)),
            ("warm", warm(bucket, root, tries)),
        ):
            print(f"{f'DVC finds one of them current, {way}, by the clock':52}{seconds:8.2f} s", flush=True)
        functions = dict.fromkeys(spec.function for spec in load_registry(profile_root(DEFAULT_PROFILE)).specs.values())
        imports = "; ".join(f"import {function.partition(':')[0]}" for function in functions)
        spent = least(["-c", imports], root, variables, 1)
        print(f"{'imports of all stages, which a fork has already':52}{spent:8.2f} s")


if __name__ == "__main__":
    run_command(main)
