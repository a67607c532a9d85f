"""The witness: one process beside the running stages of a profile, which brings their journals to the tracking store.

Stages start it where none runs (`stage_log.py`). It imports MLflow once for many stages, samples how busy the machine is, tells the store
of a stage that was killed, tries again where the store was away, deletes runs that are too old, and ends a while after the last stage.
"""

from __future__ import annotations

import fcntl
import os
import platform
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlip_assets.lineage.environment import machine, packages
from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.profiles import PARAMS_FILE, PROJECT_ROOT
from rlip_assets.storage.errors import RlipError
from rlip_assets.storage.files import write_json, write_text
from rlip_assets.tracking.address import StoreAwayError, fingerprint, store_uri, why_away
from rlip_assets.tracking.journal import FOLDER, Journal, waiting_journals
from rlip_assets.tracking.sender import Sender, send_waiting

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

LINGER_VARIABLE = "RLIP_WITNESS_SECONDS"
"""Seconds that a witness waits for further stages after the last one."""
_LINGER_SECONDS, _LOOK_SECONDS, _RETRY_SECONDS, _SWEEP_SECONDS = 20.0, 0.1, 5.0, 20.0


def ensure_witness(root: Path) -> None:
    """Start a witness for the profile at `root` and the current store where none runs.

    It has a session of its own, so that what kills a stage and its children leaves it to tell the store. It inherits the lock that makes it
    the only one, which the system releases when it ends.
    """
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / f"witness-{fingerprint(store_uri())}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with (folder / "witness.log").open("wb") as output:
            subprocess.Popen(
                [sys.executable, "-m", "rlip_assets.tracking.witness", str(root.resolve())],
                cwd=PROJECT_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock,),
            )
    except BlockingIOError:
        pass
    finally:
        os.close(lock)


class Witness:
    """Sends the journals of a profile again and again.

    Args:
        project: holds the store where no other is named.
    """

    def __init__(self, root: Path, project: Path = PROJECT_ROOT) -> None:
        self._root, self._project = root, project
        self._sender = Sender(project)
        self._next_try, self._answers = 0.0, False
        self._known: dict[str, _Companion] = {}

    def look(self) -> bool:
        """Send what there is; return whether a stage is running."""
        waiting = [
            each for each in waiting_journals(self._root) if each.header.get("store") == fingerprint(store_uri())
        ]
        living = [each for each in waiting if each.alive]
        for journal in living:
            if journal.key not in self._known:
                self._known[journal.key] = _Companion(journal)
        if waiting and time.monotonic() >= self._next_try:
            try:
                if not self._answers:
                    self._require_answer(waiting)
                for sentence in send_waiting(self._root, self._sender):
                    print(sentence, flush=True)
                for journal in living:
                    self._known[journal.key].sample()
                self._answers = True
            except RlipError as error:
                print(error, flush=True)
                self._answers = False
                self._next_try = time.monotonic() + _RETRY_SECONDS
        return bool(living)

    def sweep(self) -> None:
        """Delete what is older than the profile keeps, where anything was sent and the store answers."""
        if not self._answers:
            return
        from rlip_assets.tracking.retention import sweep

        try:
            days = load_params(self._root / PARAMS_FILE).execution.keep_days
            if days is not None and (said := sweep(self._root, days, self._project, _SWEEP_SECONDS)):
                print(said, flush=True)
        except Exception as error:  # whatever the store or a damaged file says, a sweep never ends the witness
            print(f"old runs stay for now ({error})", flush=True)

    @staticmethod
    def _require_answer(waiting: list[Journal]) -> None:
        """Raise RlipError where nothing listens at the store's address, without importing MLflow; the journals note why."""
        if reason := why_away(store_uri()):
            for journal in waiting:
                with journal.sending() as mine:
                    if mine and journal.folder.exists():
                        journal.note(replace(journal.state, trouble=reason))
            raise StoreAwayError(store_uri(), reason)


class _Companion:
    """The witness's own part of the journal of a running stage: the machine, its packages, and how busy it is."""

    def __init__(self, journal: Journal) -> None:
        self._journal, self._busy = journal, bool(journal.header.get("busy"))
        self._step, self._due = 0, 0.0
        self._monitor: SystemMetricsMonitor | None = None
        # the form that `pip install -c` takes
        listed = "".join(f"{name}=={version}\n" for name, version in packages().items())
        write_text(path := journal.attach("packages.txt", "environment"), listed)
        journal.add_file(path)
        write_json(
            path := journal.attach("machine.json", "environment"), {"python": platform.python_version()} | machine()
        )
        journal.add_file(path)

    def sample(self) -> None:
        """Add how busy the machine is, where that is wanted and due."""
        if not self._busy or time.monotonic() < self._due:
            return
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        if self._monitor is None:
            self._monitor = SystemMetricsMonitor("", tracking_uri=store_uri())
        self._monitor.collect_metrics()
        values = {f"system/{name}": float(value) for name, value in self._monitor.aggregate_metrics().items()}
        for each in self._monitor.monitors:
            each.clear_metrics()
        self._journal.add("metrics", values=values, step=self._step)
        self._step, self._due = self._step + 1, time.monotonic() + self._monitor.sampling_interval


def attend(root: Path) -> None:
    """Be the witness of the profile at `root` until no stage has run for a while."""
    linger = float(os.environ.get(LINGER_VARIABLE, _LINGER_SECONDS))
    witness, last, swept = Witness(root), time.monotonic(), False
    while (root / FOLDER).is_dir():
        if witness.look():
            last, swept = time.monotonic(), False
        elif time.monotonic() - last > linger:
            if swept:
                return
            witness.sweep()  # stages that have begun meanwhile find the witness
            swept = True
            continue
        time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    attend(Path(sys.argv[1]))
