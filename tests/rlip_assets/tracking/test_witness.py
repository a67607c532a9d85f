"""A witness is never a condition: stores that are down, die or come back; stages that are killed; operations that are sent twice."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from mlflow.entities import Run

import tests.support.toy_stage as toy_stage
from rlip_assets.lineage.log import open_stage_log
from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.runner import run_stage
from rlip_assets.storage.errors import InputError
from rlip_assets.tracking.address import STORE_VARIABLE, server_address, shown, why_away
from rlip_assets.tracking.journal import Journal, waiting_journals
from rlip_assets.tracking.sender import Sender, send_waiting
from rlip_assets.tracking.stage_log import track_stage
from rlip_assets.tracking.store import all_runs, open_store

PROJECT = Path(__file__).resolve().parents[3]
CLOSED = "http://127.0.0.1:9"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLIP_WITNESS_SECONDS", "0")
    return toy_stage.project(tmp_path)


def run_tracked(root: Path, function: str) -> None:
    opened = partial(open_stage_log, track=track_stage)
    run_stage(toy_stage.registry(function), load_params(root / "params.yaml"), root, "words", "a", opened, version=1)


def sent(root: Path, redirect: bool = False) -> list[str]:
    return list(send_waiting(root, Sender(root), redirect=redirect))


def steps_of(run: Run) -> list[int]:
    return [metric.step for metric in open_store().get_metric_history(run.info.run_id, "loss")]


def test_a_store_that_is_down_costs_a_sentence_and_nothing_else(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(STORE_VARIABLE, CLOSED)
    run_tracked(root, "count_words")
    run_tracked(root, "count_words")
    told = [line for line in capfd.readouterr().err.splitlines() if "tracking store" in line]
    assert len(told) == 2
    assert f"{CLOSED} does not answer (connection refused); the stage goes on" in told[0]
    assert (root / "data/words/words.txt").exists()
    with pytest.raises(InputError, match=r"127\.0\.0\.1:9 does not answer \(connection refused\)"):
        sent(root)
    monkeypatch.setenv(STORE_VARIABLE, f"sqlite:///{root}/store/mlflow.db")
    assert [line.partition(" ")[2] for line in sent(root)] == [f"waits for {CLOSED}"] * 2
    first, second = waiting_journals(root)
    shutil.copytree(first.folder, root / "again")
    assert all("words@a is sent: run " in line for line in sent(root, redirect=True))
    assert waiting_journals(root) == []
    runs = list(all_runs(open_store()))
    assert [run.data.tags["rlip.key"] for run in runs] == [second.key, first.key], "in order"
    assert [steps_of(run) for run in runs] == [[1, 2], [1, 2]]
    # the sender was killed before it noted what it had sent
    shutil.copytree(root / "again", first.folder)
    sent(root, redirect=True)
    again = list(all_runs(open_store()))
    assert [(run.info.run_id, run.data.metrics, steps_of(run)) for run in again] == [
        (run.info.run_id, run.data.metrics, [1, 2]) for run in runs
    ]
    versions = open_store().search_model_versions(f"name = '{root.name}-words-a'")
    assert sorted(str(version.version) for version in versions) == ["1", "2"]


def test_the_journal_of_a_killed_stage_is_closed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the kill cut its last line; one whose stage lives is left open."""
    monkeypatch.setenv(STORE_VARIABLE, f"sqlite:///{root}/store/mlflow.db")
    content = {"experiment": "toys", "name": "words@a", "profile": "toy", "grouped": False, "busy": False, "tags": {}}
    journal = Journal.create(root, "words@a", content)
    journal.add("metrics", values={"loss": 0.5}, step=1)
    with (journal.folder / "journal.jsonl").open("a") as stream:
        stream.write('{"op": "metr')
    assert sent(root) == []
    (run,) = all_runs(open_store())
    assert (run.info.status, steps_of(run)) == ("RUNNING", [1])
    assert journal._alive is not None
    os.close(journal._alive)
    assert sent(root) == [f"words@a is sent: run {run.info.run_id}; it was killed"]
    (run,) = all_runs(open_store())
    assert (run.info.status, steps_of(run)) == ("KILLED", [1])


def test_what_a_store_refuses_holds_up_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORE_VARIABLE, f"sqlite:///{root}/store/mlflow.db")
    content = {"experiment": "toys", "name": "words@a", "profile": "toy", "grouped": False, "busy": False, "tags": {}}
    journal = Journal.create(root, "words@a", content)
    journal.add("metrics", values={"no name \x00 !": 0.5}, step=1)
    journal.add("measured", run="0" * 32, values={"loss": 0.5})
    journal.add("params", values={"kept": "1"})
    journal.end("FINISHED")
    (told,) = sent(root)
    assert told.endswith("; 2 records were refused")
    (run,) = all_runs(open_store())
    assert (run.info.status, run.data.params) == ("FINISHED", {"kept": "1"})


def test_addresses_tell_no_password_and_servers_from_databases() -> None:
    assert shown("postgresql://user:secret@host:5432/db") == "postgresql://host:5432/db"
    assert server_address("https://user:secret@host/mlflow/") == "https://host/mlflow"
    assert server_address("sqlite:////somewhere/mlflow.db") is None
    assert why_away("sqlite:////somewhere/mlflow.db") is None
    assert why_away("postgresql+psycopg2://user:@/mlflow?host=/run/postgresql") is None  # by a socket file
    assert why_away("postgresql+psycopg2://127.0.0.1:9/db") == "connection refused"
    assert why_away("http://127.0.0.1:99999") is not None


class MlflowServer:
    """A real server on a free port, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self._command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
        self._command += [
            "--backend-store-uri",
            f"sqlite:///{folder}/mlflow.db",
            "--artifacts-destination",
            f"{folder}/a",
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        variables = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._process = subprocess.Popen(
            self._command, env=variables, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self._answers)

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        with suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(f"{self.address}/health"):
            return True
        return False


def wait_for(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowServer]:
    (tmp_path / "server").mkdir()
    server = MlflowServer(tmp_path / "server")
    monkeypatch.setenv(STORE_VARIABLE, server.address)
    try:
        yield server
    finally:
        server.kill()


def start_stage(root: Path) -> subprocess.Popen[str]:
    code = (
        "import sys; from pathlib import Path; from tests.rlip_assets.tracking.test_witness import run_tracked;"
        "run_tracked(Path(sys.argv[1]), 'told_steps')"
    )
    variables = {**os.environ, "PYTHONPATH": str(PROJECT), "RLIP_WITNESS_SECONDS": "60"}
    command = [sys.executable, "-c", code, str(root)]
    return subprocess.Popen(command, cwd=PROJECT, env=variables, stderr=subprocess.PIPE, text=True)


@pytest.mark.deep
def test_a_server_that_dies_in_mid_run_costs_nothing(root: Path, server: MlflowServer) -> None:
    """Killed in mid-run, away at the end, started again: all steps arrive once. A stage killed with SIGKILL is told to the store."""
    server.start()
    stage = start_stage(root)
    (root / "step-1").touch()
    wait_for(lambda: [steps_of(run) for run in all_runs(open_store(root))] == [[1]])
    server.kill()
    (root / "step-2").touch()
    (root / "step-end").touch()
    _, told = stage.communicate(timeout=240)
    assert stage.returncode == 0, told
    assert told.count("does not have all of this run (") == 1, told
    assert "Traceback" not in told
    (journal,) = waiting_journals(root)
    server.start()
    wait_for(lambda: not journal.folder.exists())  # the witness looks again; `rlip tracking send` would too
    (run,) = all_runs(open_store(root))
    assert (run.info.status, steps_of(run)) == ("FINISHED", [1, 2, 1, 2])
    assert run.data.metrics["words"] == 3

    (root / "step-end").unlink()
    stage = start_stage(root)
    wait_for(lambda: len(list(all_runs(open_store(root)))) == 2)
    stage.kill()
    stage.communicate()
    wait_for(lambda: next(all_runs(open_store(root))).info.status == "KILLED")
    wait_for(lambda: not waiting_journals(root))  # the store has the end of the run just before its journal goes
