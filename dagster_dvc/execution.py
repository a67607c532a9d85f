"""Run DVC stages inside a Dagster run: `dvc repro --single-item ADDRESS...`, one process after the other.

A stage runs as a grandchild: its output goes to the run's compute log, and whoever ends the run ends the whole process group.
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
from dagster_pipes import (
    PipesContext,
    PipesDefaultContextLoader,
    PipesDefaultMessageWriter,
    PipesMappingParamsLoader,
)

from dagster_dvc.lock import LockEntry, read_lock
from dagster_dvc.metadata import fenced
from dagster_dvc.project import DvcProject, Item
from dagster_dvc.translator import DvcTranslator

BUSY_MESSAGES = ("is busy, it is being blocked by", "Unable to acquire lock")
SKIPPED_MESSAGES = ("didn't change, skipping", "is cached - skipping run")
"""DVC's words for a stage that did not run: it was up to date, or the run cache had its outputs."""
RUN_VARIABLE, PROCESS_VARIABLE = "DAGSTER_RUN_ID", "DAGSTER_PROCESS_ID"
"""Variables that tell a stage which run asked for it, and which process it should not outlive."""
_LAST_LINES, _GRACE_SECONDS, _LONGEST_PAUSE = 40, 15.0, 30.0


def reproduce(
    context: dg.AssetExecutionContext,
    project: DvcProject,
    items: Sequence[Item],
    translator: DvcTranslator,
    busy_timeout: float = 600.0,
) -> tuple[list[LockEntry], int]:
    """Run items in order; return what DVC recorded of each, and how many it found up to date or brought back from an equal run.

    Raises:
        dg.Failure: an item failed; the description says why in one sentence, the metadata have its last lines. Dagster may try again
            only where DVC was busy all the time, or the translator calls the failure transient.
    """
    addresses = [item.address for item in items]
    spoken = addresses[0] if len(addresses) == 1 else f"{addresses[0]} and {len(addresses) - 1} more"
    force = ["--force"] if translator.force(context) else []
    command = [*translator.dvc(), "--wait-for-lock", "repro", "--single-item", *force, *addresses]
    deadline, pause = time.monotonic() + busy_timeout, 1.0
    while True:
        translator.before_run(context, project.root)
        status, lines, skipped = _attempt(context, command, project.root, translator)
        busy = status != 0 and any(line.startswith("ERROR: ") and m in line for line in lines for m in BUSY_MESSAGES)
        if not busy or time.monotonic() + pause > deadline:
            break
        context.log.info(f"DVC is busy with a path of {spoken}; trying again in {pause:.0f} s")
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
    if status != 0:
        raise dg.Failure(
            translator.cause(lines, status),
            metadata={"stages": " ".join(addresses), "last lines": dg.MetadataValue.md(fenced(lines))},
            allow_retries=busy or translator.transient(lines, status),
        )
    recorded = read_lock(project, items)
    if absent := [address for address in addresses if address not in recorded]:
        raise dg.Failure(f"DVC ran {spoken} but dvc.lock lacks {absent[0]}; is another process rewriting dvc.lock?")
    return [translator.recorded(item, recorded[item.address]) for item in items], skipped


def failure_reason(failure: dg.DagsterEvent) -> str:
    """Return the reason of a failed step: the description of its `dg.Failure`, else the message of the error."""
    data = failure.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return str(data.user_failure_data.description)
    return str(data.error.message) if data.error is not None else str(failure.message)


def _attempt(
    context: dg.AssetExecutionContext, command: Sequence[str], root: Path, translator: DvcTranslator
) -> tuple[int, list[str], int]:
    parts = dg.PipesTempFileContextInjector(), dg.PipesTempFileMessageReader()
    with dg.open_pipes_session(context, *parts) as session:
        bootstrap = session.get_bootstrap_env_vars()
        variables = {
            **os.environ,
            **bootstrap,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            RUN_VARIABLE: context.run.run_id,
            PROCESS_VARIABLE: str(os.getpid()),
            "DVC_NO_ANALYTICS": "1",
            "PYTHONUNBUFFERED": "1",  # what a stage prints is seen at once, as on a terminal
            **translator.environment(context),
        }
        status, lines, skipped = _run(command, root, variables)
        _open_and_close(bootstrap)
    return status, lines, skipped


def _open_and_close(bootstrap: Mapping[str, str]) -> None:
    """Open and close the session where the stage has not: it does not speak Pipes, or did not run. Dagster warns of silent processes."""
    loader = PipesMappingParamsLoader(bootstrap)
    path = loader.load_messages_params().get("path")
    if path is not None and not (Path(path).exists() and Path(path).stat().st_size):
        PipesContext(loader, PipesDefaultContextLoader(), PipesDefaultMessageWriter()).close()


def _run(command: Sequence[str], root: Path, variables: Mapping[str, str]) -> tuple[int, list[str], int]:
    """Run a command in its own process group, passing its output on; return its status, last lines and the stages it skipped."""
    process = subprocess.Popen(
        command,
        cwd=root,
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    lines, skipped = deque[str](maxlen=_LAST_LINES), 0
    assert process.stdout is not None
    try:
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            lines.append(line.rstrip())
            skipped += any(message in line for message in SKIPPED_MESSAGES)
        return process.wait(), list(lines), skipped
    except BaseException:  # an interruption, or a log that takes no more
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
