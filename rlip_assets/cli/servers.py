"""Dagster and MLflow side by side on localhost, until interrupted."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from rlip_assets.lineage.profiles import PROJECT_ROOT
from rlip_assets.storage.errors import BusyError, InputError
from rlip_assets.tracking.address import (
    ARTIFACTS,
    UI_VARIABLE,
    artifacts_folder,
    require_store,
    server_address,
    store_uri,
)

HOST = "127.0.0.1"
PREFIX_VARIABLE = "DAGSTER_WEBSERVER_PATH_PREFIX"
"""Option of Dagster's web server; see `dagster_project/webserver.py`."""
_READY_SECONDS = 600.0
"""Both answer in half a minute on an idle machine, and in minutes beside a training run on two cores."""


@dataclass(frozen=True)
class Server:
    """One process: its name, command and environment; a server also has a port, and a path that answers when it is ready."""

    name: str
    command: list[str]
    port: int | None = None
    prefix: str = ""
    ready_path: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """URL for a browser."""
        return f"http://{HOST}:{self.port}{self.prefix}"

    @property
    def log(self) -> Path:
        """File of its output, readable by its user alone: it may contain the secret prefix."""
        return PROJECT_ROOT / "work" / f"{self.name.lower().replace(' ', '-')}.log"


def serve(profile: str, dagster_port: int, mlflow_port: int) -> None:
    """Start both servers, print their addresses and those of comparisons, and end them on Ctrl-C or SIGTERM.

    Where MLFLOW_TRACKING_URI names an MLflow server, that one is used and no other started.

    Raises:
        BusyError: a port is in use.
        StoreAwayError: the tracking store does not answer.
        InputError: a server ended by itself; its log is named.
    """
    require_store()
    running_mlflow, mlflow = server_address(store_uri()), _mlflow(mlflow_port)
    servers = [*([] if running_mlflow else [mlflow]), *_dagster(dagster_port)]
    for server in servers:
        require_free(server)
    os.environ[UI_VARIABLE] = running_mlflow or mlflow.address
    print("starting Dagster and MLflow, which takes about half a minute; Ctrl-C ends both", flush=True)
    comparisons = open_store(profile)
    signal.signal(signal.SIGTERM, _interrupt)
    running: list[tuple[Server, subprocess.Popen[bytes]]] = []
    try:
        for server in servers:
            running.append((server, _start(server)))
        for server, process in running:
            if server.port is not None:
                _wait_until_ready(server, process)
                print(f"{server.name:8s} {server.address}   (log: {server.log})", flush=True)
        if running_mlflow:
            print(f"{mlflow.name:8s} {running_mlflow}   (MLFLOW_TRACKING_URI)", flush=True)
        for title, address in comparisons.items():
            print(f"compare {title}: {address}", flush=True)
        print("the address of Dagster is a key: who has it can start and delete runs", flush=True)
        while True:
            for server, process in running:
                if process.poll() is not None:
                    raise InputError(f"{server.name} ended with status {process.returncode}; its log is {server.log}")
            time.sleep(0.5)
    finally:
        for _, process in running:
            _end(process)


def require_free(server: Server) -> None:
    """Raise BusyError where something listens on the server's port already."""
    if server.port is None:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, server.port))
        except OSError as error:
            option = f"--{server.name.lower()}-port"
            remedy = f"end what listens there or choose another with `rlip ui {option} {server.port + 1}`"
            why = str(error.strerror).lower()
            raise BusyError(f"Port {server.port} for {server.name} cannot be used ({why}); {remedy}") from None


def open_store(profile: str) -> dict[str, str]:
    """Create the tracking store if it is missing (two processes that do so at once both fail), and send it what waits.

    Returns:
        The address of each comparison of the profile's trainings, by title.
    """
    command = [sys.executable, "-m", "rlip_assets.tracking.opening", profile]
    opened = subprocess.run(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if opened.returncode:
        sys.exit(opened.returncode)
    addresses: dict[str, str] = json.loads(opened.stdout)
    return addresses


def _dagster(port: int) -> list[Server]:
    """Return the web server behind a secret prefix, which is in its environment and in no command line, and the daemon."""
    code = ["--module-name", "dagster_project.definitions"]
    web = [sys.executable, "-m", "dagster_project.webserver", *code, "--host", HOST, "--port", str(port)]
    prefix = f"/{secrets.token_urlsafe(24)}"
    return [
        Server("Dagster", web, port, prefix, "/server_info", {PREFIX_VARIABLE: prefix}),
        Server("Dagster daemon", [str(Path(sys.executable).with_name("dagster-daemon")), "run", *code]),
    ]


def _mlflow(port: int) -> Server:
    artifacts = artifacts_folder() or PROJECT_ROOT / "mlruns" / ARTIFACTS
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--artifacts-destination", artifacts.as_uri()]
    # in the environment, which others cannot read: the address of a database may have a password
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_BACKEND_STORE_URI": store_uri()}
    return Server("MLflow", command, port, ready_path="/health", environment=environment)


def _start(server: Server) -> subprocess.Popen[bytes]:
    server.log.parent.mkdir(parents=True, exist_ok=True)
    server.log.unlink(missing_ok=True)
    with os.fdopen(os.open(server.log, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        return subprocess.Popen(
            server.command,
            cwd=PROJECT_ROOT,
            env={**os.environ, **server.environment},
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_default_interrupt,
        )


def _default_interrupt() -> None:
    """Restore SIGINT: background processes inherit it as ignored, and Dagster treats SIGTERM as it does SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise InputError(
                f"{server.name} ended with status {process.returncode} while starting; its log is {server.log}"
            )
        with (
            suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(f"{server.address}{server.ready_path}", timeout=5),
        ):
            return
        time.sleep(0.5)
    raise InputError(
        f"{server.name} did not answer on {server.address} within {_READY_SECONDS:.0f} s; its log is {server.log}"
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
