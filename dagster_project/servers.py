"""Dagster and MLflow side by side on localhost, until interrupted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from dagster import DagsterInstance

from dagster_project.dead_runs import end_dead_runs
from dagster_project.metadata import MLFLOW_ADDRESS_VARIABLE
from rlip_assets.lineage.profiles import PROJECT_ROOT
from rlip_assets.storage.errors import BusyError, InputError

HOST = "127.0.0.1"
_READY_SECONDS = 600.0
"""Both answer in half a minute on an idle machine, and in minutes beside a training on two cores."""


@dataclass(frozen=True)
class Server:
    """One server: its name, its port, the command that starts it and a path that answers when it is ready."""

    name: str
    port: int
    command: list[str]
    ready_path: str

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://{HOST}:{self.port}"


def serve(dagster_port: int, mlflow_port: int) -> None:
    """Start both servers, print their addresses, and end them on Ctrl-C or SIGTERM.

    Raises:
        BusyError: a port is in use.
        InputError: a server ended by itself; its log is named.
    """
    servers = [_mlflow(mlflow_port), _dagster(dagster_port)]
    for server in servers:
        require_free(server)
    os.environ[MLFLOW_ADDRESS_VARIABLE] = servers[0].address
    print("starting Dagster and MLflow, which takes about half a minute; Ctrl-C ends both", flush=True)
    create_store()
    with DagsterInstance.get() as instance:
        if dead := end_dead_runs(instance):
            print(f"{len(dead)} runs of earlier days were killed: they are reported as failed", flush=True)
    signal.signal(signal.SIGTERM, _interrupt)
    running: list[tuple[Server, subprocess.Popen[bytes], Path]] = []
    try:
        for server in servers:
            running.append(_start(server))
        for entry in running:
            _wait_until_ready(*entry)
            server, _, log = entry
            print(f"{server.name:8s} {server.address}   (log: {log})", flush=True)
        while True:
            for server, process, log in running:
                if process.poll() is not None:
                    raise InputError(f"{server.name} ended with status {process.returncode}; its log is {log}")
            time.sleep(0.5)
    finally:
        for _, process, _ in running:
            _end(process)


def require_free(server: Server) -> None:
    """BusyError where something listens on the server's port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, server.port))
        except OSError:
            option = f"--{server.name.lower()}-port"
            remedy = f"end what listens there or choose another with `rlip ui {option} {server.port + 1}`"
            raise BusyError(f"Port {server.port} for {server.name} is in use; {remedy}") from None


def create_store() -> None:
    """Create the tracking store where there is none: two processes that do so at once would both fail."""
    subprocess.run(
        [sys.executable, "-c", "from rlip_assets.tracking.store import open_store; open_store()"], check=True
    )


def _dagster(port: int) -> Server:
    module = [sys.executable, "-m", "dagster", "dev", "--module-name", "dagster_project.definitions"]
    return Server("Dagster", port, [*module, "--host", HOST, "--port", str(port)], "/server_info")


def _mlflow(port: int) -> Server:
    store = f"sqlite:///{PROJECT_ROOT / 'mlruns' / 'mlflow.db'}"
    artifacts = (PROJECT_ROOT / "mlruns" / "artifacts").as_uri()
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    return Server(
        "MLflow", port, [*command, "--backend-store-uri", store, "--artifacts-destination", artifacts], "/health"
    )


def _start(server: Server) -> tuple[Server, subprocess.Popen[bytes], Path]:
    log = PROJECT_ROOT / "work" / f"{server.name.lower()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            server.command,
            cwd=PROJECT_ROOT,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_default_interrupt,
        )
    return server, process, log


def _default_interrupt() -> None:
    """Dagster copies the handling of SIGINT to SIGTERM; a process started in the background inherits it as ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise InputError(f"{server.name} ended with status {process.returncode} while starting; its log is {log}")
        with (
            suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(f"{server.address}{server.ready_path}", timeout=5),
        ):
            return
        time.sleep(0.5)
    raise InputError(
        f"{server.name} did not answer on {server.address} within {_READY_SECONDS:.0f} s; its log is {log}"
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(timeout=10)
            return
        except subprocess.TimeoutExpired:
            continue


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
