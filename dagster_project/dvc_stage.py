"""A Dagster asset materialises by running its DVC stage: `dvc repro --single-item STAGE@PARTITION`, or several in a backfill of few runs.

The stage runs as a grandchild process; its messages reach the Dagster run through Pipes, its output the run's compute log. Ending the
run ends the whole process group.

DVC waits for its repository lock (`--wait-for-lock`; without it, a finished stage is lost if another DVC process holds the lock for three
seconds), but not for a path that another process uses, so this module retries.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import dagster as dg
from dagster import PipesSession, PipesTempFileContextInjector, PipesTempFileMessageReader, open_pipes_session
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster_pipes import (
    PipesContext,
    PipesDefaultContextLoader,
    PipesDefaultMessageWriter,
    PipesMappingParamsLoader,
)

from dagster_project.dead_runs import WORKER_TAG, this_worker
from rlip_assets.dvc.lock import DvcLock, LockEntry
from rlip_assets.dvc.repair import repair
from rlip_assets.lineage.provenance import DAGSTER_RUN_VARIABLE
from rlip_assets.lineage.watchdog import REQUESTER_VARIABLE
from rlip_assets.storage.escape import markdown_block

BUSY_MESSAGES = ("is busy, it is being blocked by", "Unable to acquire lock")
ERROR_PREFIX = "rlip: "
"""Start of the one-line errors of `rlip`."""
SKIPPED_MESSAGES = ("didn't change, skipping", "is cached - skipping run")
"""Messages of DVC for a stage that did not run: it was up to date, or the run cache had its outputs."""
_GRACE_SECONDS = 15.0


def reproduce(
    context: dg.AssetExecutionContext,
    root: Path,
    addresses: Sequence[str],
    *,
    force: bool = False,
    environment: Mapping[str, str] | None = None,
    busy_timeout: float = 600.0,
) -> tuple[list[LockEntry], int]:
    """Run DVC stages of the profile at `root`, one after the other, to their end.

    Returns:
        The entry of each in `dvc.lock`, and how many were up to date or restored from the run cache.

    Raises:
        dg.Failure: a stage failed; the description gives the reason in one sentence, the metadata the last lines of output.
    """
    spoken = addresses[0] if len(addresses) == 1 else f"{addresses[0]} and {len(addresses) - 1} more"
    options = ["--single-item", *(["--force"] if force else [])]
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", *options, *addresses]
    deadline, pause = time.monotonic() + busy_timeout, 1.0
    context.instance.add_run_tags(context.run_id, {WORKER_TAG: this_worker()})
    while True:
        for sentence in repair(root):
            context.log.warning(sentence)
        with open_pipes_session(context, PipesTempFileContextInjector(), PipesTempFileMessageReader()) as session:
            variables = {
                **os.environ,
                **session.get_bootstrap_env_vars(),
                **(environment or {}),
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
                DAGSTER_RUN_VARIABLE: context.run_id,
                REQUESTER_VARIABLE: str(os.getpid()),
                "DVC_NO_ANALYTICS": "1",
            }
            status, lines, skipped = _run(command, root, variables)
            if status == 0 and skipped == len(addresses):
                _open_and_close(session)
        text = "\n".join(lines)
        busy = status != 0 and any(message in text for message in BUSY_MESSAGES)
        if not busy or time.monotonic() + pause > deadline:
            break
        context.log.info(f"DVC is busy with a path of {spoken}; trying again in {pause:.0f} s")
        time.sleep(pause)
        pause = min(pause * 2, 30.0)
    if status != 0:
        raise dg.Failure(
            cause_of(lines, status),
            metadata={"stages": " ".join(addresses), "last lines": dg.MetadataValue.md(markdown_block(text))},
            allow_retries=busy,
        )
    lock = DvcLock.read(root)
    entries = [entry for address in addresses if (entry := lock.get(address)) is not None]
    if len(entries) < len(addresses):
        raise dg.Failure(f"DVC ran {spoken} but dvc.lock lacks an entry; is another process rewriting dvc.lock?")
    return entries, skipped


def _open_and_close(session: PipesSession) -> None:
    """Open and close the Pipes session of a stage that did not run; Dagster warns about silent processes."""
    loader = PipesMappingParamsLoader(session.get_bootstrap_env_vars())
    PipesContext(loader, PipesDefaultContextLoader(), PipesDefaultMessageWriter()).close()


def cause_of(lines: Sequence[str], status: int) -> str:
    """Return the reason for a failure: the one-line error of the stage if it printed one, else the last line that is not DVC's own."""
    for line in reversed(lines):
        if line.startswith(ERROR_PREFIX):
            return line.removeprefix(ERROR_PREFIX)
    said = [line for line in lines if line.strip() and "failed to reproduce" not in line]
    return f"`dvc repro` ended with status {status}" + (f" after the line: {said[-1]}" if said else "")


def _run(command: list[str], root: Path, variables: Mapping[str, str]) -> tuple[int, list[str], int]:
    """Run a command in its own process group and echo its output; return status, last lines and number of skipped stages."""
    process = subprocess.Popen(
        command,
        cwd=root,
        env=dict(variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    lines: deque[str] = deque(maxlen=40)
    skipped = 0
    assert process.stdout is not None
    try:
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            lines.append(line.rstrip())
            skipped += any(message in line for message in SKIPPED_MESSAGES)
        return process.wait(), list(lines), skipped
    except (DagsterExecutionInterruptedError, KeyboardInterrupt):
        end_group(process)
        raise
    finally:
        process.stdout.close()


def end_group(process: subprocess.Popen[str], grace: float = _GRACE_SECONDS) -> None:
    """End a process group with SIGTERM, and after `grace` seconds with SIGKILL."""
    deadline = time.monotonic() + grace
    try:
        os.killpg(process.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
