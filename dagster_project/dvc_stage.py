"""A Dagster asset materialises by running its DVC stage: `dvc repro --single-item STAGE@PARTITION`, or several in a backfill of few runs.

The stage runs as a grandchild; its lines reach the Dagster run through Pipes, its output the run's compute log. Whoever ends the
run ends the whole process group.

DVC waits for its repository lock (`--wait-for-lock`; without it a stage that has run to its end is lost where another DVC process
holds the lock for three seconds), but not for a path that another one holds, so this module waits and tries again.
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
"""How `rlip` begins the one sentence about an error that the user can act on."""
SKIPPED_MESSAGES = ("didn't change, skipping", "is cached - skipping run")
"""What DVC says where the stage did not run: it was up to date, or the run cache had its outputs."""
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
        What DVC recorded of each, and how many of them it found up to date or brought back from an equal run.

    Raises:
        dg.Failure: the stage failed; the description says why in one sentence, the metadata have its last lines.
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
                _speak_for_stage(session)
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


def _speak_for_stage(session: PipesSession) -> None:
    """Open and close the messages of a stage that did not have to run; Dagster warns of processes that say nothing."""
    loader = PipesMappingParamsLoader(session.get_bootstrap_env_vars())
    PipesContext(loader, PipesDefaultContextLoader(), PipesDefaultMessageWriter()).close()


def cause_of(lines: Sequence[str], status: int) -> str:
    """Why DVC failed, by its last lines: the sentence of the stage where it said one, else the last line that is not DVC's own."""
    for line in reversed(lines):
        if line.startswith(ERROR_PREFIX):
            return line.removeprefix(ERROR_PREFIX)
    said = [line for line in lines if line.strip() and "failed to reproduce" not in line]
    return f"`dvc repro` ended with status {status}" + (f" after the line: {said[-1]}" if said else "")


def _run(command: list[str], root: Path, variables: Mapping[str, str]) -> tuple[int, list[str], int]:
    """Run a command in its own process group, passing its output on; returns its status, last lines and the stages it skipped."""
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
    """End a process group: ask with SIGTERM, wait `grace` seconds for all of its members, then SIGKILL."""
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
