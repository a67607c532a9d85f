"""Run DVC stages inside a Dagster run: `dvc repro --single-item ADDRESS...`, one process after the other.

A stage runs as a grandchild: its output goes to the run's compute log, and whoever ends the run ends the whole process group.
DVC waits for its repository lock (`--wait-for-lock`; without it a stage that has run to its end is lost where another DVC process
holds the lock for three seconds), but not for a path that another one holds, so this module waits and tries again.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen
from typing import Any

import dagster as dg

from dagster_dvc.lock import LockEntry, read_lock
from dagster_dvc.metadata import fenced
from dagster_dvc.project import DvcProject, Item
from dagster_dvc.translator import DvcTranslator

BUSY_MESSAGES = ("is busy, it is being blocked by", "Unable to acquire lock")
_SKIPPED = re.compile(r"Stage '(.+)' (didn't change, skipping|is cached - skipping run)")
"""DVC's words for a stage that did not run: it was up to date, or the run cache had its outputs."""
Reported = Sequence[dg.MaterializeResult[Any] | dg.AssetCheckResult]  # through Dagster Pipes
_LAST_LINES, _GRACE_SECONDS, _LONGEST_PAUSE, _BUSY_SECONDS = 40, 15.0, 30.0, 600.0


def reproduce(
    context: dg.AssetExecutionContext, project: DvcProject, items: Sequence[Item], translator: DvcTranslator
) -> tuple[dict[str, LockEntry], set[str], Reported]:
    """Run items in order; return all that DVC has recorded, the addresses of those that were up to date or brought back, and reports.

    Raises:
        dg.Failure: an item failed; the description says why in one sentence, the metadata have its last lines. Dagster may try again
            only where DVC was busy all the time, or the translator calls the failure transient.
    """
    addresses = [item.address for item in items]
    spoken = addresses[0] if len(addresses) == 1 else f"{addresses[0]} and {len(addresses) - 1} more"
    force = ["--force"] if translator.force(context) else []
    command = [*translator.dvc(), "--wait-for-lock", "repro", "--single-item", *force, *addresses]
    deadline, pause = time.monotonic() + _BUSY_SECONDS, 1.0
    while True:
        translator.before_run(context, project.root)
        status, lines, skipped, told = _attempt(context, command, project.root, translator)
        error = next((line for line in reversed(lines) if line.startswith("ERROR: ")), "")
        busy = status != 0 and any(message in error for message in BUSY_MESSAGES)
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
    recorded = read_lock(project)
    if absent := [address for address in addresses if address not in recorded]:
        why = "is it frozen and never ran, or is another process rewriting dvc.lock?"
        raise dg.Failure(f"DVC ended well but dvc.lock lacks {absent[0]}; {why}")
    return recorded, skipped, told


def failure_reason(failure: dg.DagsterEvent) -> str:
    """Return the reason of a failed step: the description of its `dg.Failure`, else the message of the error."""
    data = failure.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return str(data.user_failure_data.description)
    return str(data.error.message) if data.error is not None else str(failure.message)


def _attempt(
    context: dg.AssetExecutionContext, command: Sequence[str], root: Path, translator: DvcTranslator
) -> tuple[int, list[str], set[str], Reported]:
    """Run a command in its own process group, passing its output on; return its status, last lines, the stages it skipped, and reports."""
    lines, skipped = deque[str](maxlen=_LAST_LINES), set[str]()
    with dg.open_pipes_session(context, dg.PipesTempFileContextInjector(), _Messages()) as session:
        variables = {
            **os.environ,
            **session.get_bootstrap_env_vars(),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "DAGSTER_RUN_ID": context.run.run_id,
            "DAGSTER_PROCESS_ID": str(os.getpid()),  # a stage should not outlive it
            "DVC_NO_ANALYTICS": "1",
            "PYTHONUNBUFFERED": "1",  # what a stage prints is seen at once, as on a terminal
            **translator.environment(context),
        }
        streams: Any = {"stdin": DEVNULL, "stdout": PIPE, "stderr": STDOUT, "errors": "replace"}
        with Popen(command, cwd=root, env=variables, start_new_session=True, **streams) as process:
            try:
                for line in process.stdout or ():
                    sys.stdout.write(line)
                    sys.stdout.flush()
                    lines.append(line.rstrip())
                    if found := _SKIPPED.match(line):
                        skipped.add(found[1])
                process.wait()
            except BaseException:  # an interruption, or a log that takes no more
                end_group(process)
                raise
    return process.returncode, list(lines), skipped, session.get_reported_results()


class _Messages(dg.PipesTempFileMessageReader):
    """Messages of any number of processes, also none: Dagster warns of silent ones, and of what is said after one has closed."""

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[Mapping[str, Any]]:
        take = handler.handle_message
        handler.handle_message = lambda one: None if one["method"] == "closed" and not one["params"] else take(one)
        with super().read_messages(handler) as params:
            yield params
        for method in ("opened", "closed"):
            take({"method": method, "params": {}})


def end_group(process: Popen[str], grace: float = _GRACE_SECONDS) -> None:
    """End a process group: ask with SIGTERM, wait `grace` seconds for all of its members, then SIGKILL."""
    deadline = time.monotonic() + grace
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
