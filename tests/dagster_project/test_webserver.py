"""While `rlip ui` runs, other pages in the same browser, and other users of the machine, cannot reach Dagster."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from dagster import DagsterInstance, DagsterRun
from starlette.types import Message

from rlip_assets.cli.guard import Guard
from rlip_assets.cli.servers import HOST, PREFIX_VARIABLE, Server, _dagster, _start, require_free
from rlip_assets.storage.errors import BusyError

SECRET = "/0123456789abcdefghijklmnop"
MUTATION = 'mutation { deletePipelineRun(runId: "%s") { __typename } }'


def answer(kind: str, path: str, *headers: tuple[str, str]) -> object:
    """Status of the guard's answer to a request or WebSocket; 200 or "accept" are those of the server behind it."""
    sent: list[Message] = []

    async def behind(scope: dict[str, object], receive: object, send: object) -> None:
        sent.append({"status": 200 if scope["type"] == "http" else "accept"})

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": f"{kind}.connect"}

    scope = {"type": kind, "method": "GET", "path": path, "headers": [(k.encode(), v.encode()) for k, v in headers]}
    asyncio.run(Guard(behind, SECRET)(scope, receive, send))  # type: ignore[arg-type]
    return sent[0].get("status") or sent[0]["type"]


OWN = ("host", "127.0.0.1:3000")
REFUSED: dict[str, tuple[str, *tuple[tuple[str, str], ...]]] = {
    "no prefix": ("/graphql", OWN),
    "root": ("/", OWN),
    "another prefix": ("/0123456789abcdefghijklmnoq/graphql", OWN),
    "a prefix that goes on": (f"{SECRET}x/graphql", OWN),
    "part of the prefix": (f"{SECRET[:-1]}/graphql", OWN),
    "foreign origin": (f"{SECRET}/graphql", OWN, ("origin", "https://evil.example")),
    "another port of this machine": (f"{SECRET}/graphql", OWN, ("origin", "http://127.0.0.1:8000")),
    "a file or sandboxed page": (f"{SECRET}/graphql", OWN, ("origin", "null")),
    "two origins": (f"{SECRET}/graphql", OWN, ("origin", "http://127.0.0.1:3000"), ("origin", "https://evil.example")),
    "rebound name": (f"{SECRET}/graphql", ("host", "evil.example:3000")),
    "name that starts alike": (f"{SECRET}/graphql", ("host", "127.0.0.1.evil.example:3000")),
    "name as user": (f"{SECRET}/graphql", ("host", "localhost@evil.example:3000")),
    "no host": (f"{SECRET}/graphql",),
    "two hosts": (f"{SECRET}/graphql", OWN, ("host", "evil.example")),
    "broken host": (f"{SECRET}/graphql", ("host", "[::1")),
}
ALLOWED: dict[str, tuple[str, *tuple[tuple[str, str], ...]]] = {
    "the page": (f"{SECRET}/graphql", OWN, ("origin", "http://127.0.0.1:3000")),
    "an address typed in": (SECRET, OWN),
    "localhost": (f"{SECRET}/", ("host", "localhost:3000"), ("origin", "http://localhost:3000")),
    "a forwarded port": (f"{SECRET}/runs", ("host", "localhost:4000"), ("origin", "http://localhost:4000")),
    "IPv6": (f"{SECRET}/runs", ("host", "[::1]:3000"), ("origin", "http://[::1]:3000")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_pages_and_users_are_refused(case: str) -> None:
    path, *headers = REFUSED[case]
    assert answer("http", path, *headers) in (403, 404)
    assert answer("websocket", path, *headers) == "websocket.close"


@pytest.mark.parametrize("case", ALLOWED)
def test_the_own_page_passes(case: str) -> None:
    path, *headers = ALLOWED[case]
    assert answer("http", path, *headers) == 200
    assert answer("websocket", path, *headers) == "accept"


def test_a_short_prefix_is_refused() -> None:
    with pytest.raises(ValueError, match=PREFIX_VARIABLE):
        Guard(None, "/dagster")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a Dagster instance."""
    return tmp_path_factory.mktemp("dagster_home")


@pytest.fixture(scope="module")
def server(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The web server as `rlip ui` starts it, without code locations."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    served, _ = _dagster(port)
    command = [*served.command[:3], "--empty-workspace", *served.command[5:]]
    process = subprocess.Popen(command, env={**os.environ, **served.environment, "DAGSTER_HOME": str(home)})
    try:
        for _ in range(600):
            try:
                http.client.HTTPConnection(HOST, port).connect()
                break
            except ConnectionRefusedError:
                assert process.poll() is None
                time.sleep(0.2)
        yield served
    finally:
        process.terminate()
        process.wait()


def request(server: Server, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(HOST, server.port)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    return response.status, f"{response.headers}{response.read().decode()}"


def test_a_page_cannot_drive_dagster(server: Server, home: Path) -> None:
    with DagsterInstance.from_config(str(home)) as instance:
        run = instance.add_run(DagsterRun("any")).run_id
    attack = f"?query={quote(MUTATION % run)}"
    evil = {"Origin": "https://evil.example"}
    for path in ("/graphql", f"{server.prefix}/graphql", "/"):
        for headers in (evil, {"Host": "evil.example"}, {**evil, "Host": "evil.example"}):
            for method, body in (("GET", None), ("POST", json.dumps({"query": MUTATION % run}))):
                status, text = request(server, method, path + attack, body, **headers, Content_Type="text/plain")
                assert status in (403, 404)
                assert server.prefix not in text, "nothing tells the prefix"
    for path in ("/", "/graphql", "/server_info", "/runs", "/dagit_info", "/favicon.png"):
        status, text = request(server, "GET", path)
        assert (status, server.prefix in text) == (404, False)
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
               "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec_WebSocket_Protocol": "graphql-ws"}  # fmt: skip
    assert request(server, "GET", f"{server.prefix}/graphql", **upgrade, **evil)[0] == 403
    assert request(server, "GET", "/graphql", **upgrade)[0] == 403
    with DagsterInstance.from_config(str(home)) as instance:
        assert instance.has_run(run)
        assert request(server, "GET", f"{server.prefix}/graphql{attack}")[0] == 200
        assert not instance.has_run(run), "who knows the address may delete a run"


def test_the_ui_works_below_its_prefix(server: Server) -> None:
    own = {"Origin": f"http://{HOST}:{server.port}", "Content_Type": "application/json"}
    status, text = request(server, "POST", f"{server.prefix}/graphql", json.dumps({"query": "{ version }"}), **own)
    assert status == 200
    assert '"version"' in text
    status, text = request(server, "GET", f"{server.prefix}/runs")
    assert status == 200
    assert f"{server.prefix}/" in text
    with socket.create_connection((HOST, server.port or 0)) as stream:
        stream.sendall(
            f"GET {server.prefix}/graphql HTTP/1.1\r\nHost: {HOST}:{server.port}\r\nOrigin: {own['Origin']}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-ws\r\n\r\n".encode()
        )
        assert stream.recv(100).startswith(b"HTTP/1.1 101")


def test_the_prefix_stands_in_no_command_line_and_no_public_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, daemon = _dagster(3000)
    assert first.prefix != _dagster(3000)[0].prefix
    assert first.prefix not in " ".join([*first.command, *daemon.command])
    monkeypatch.setattr("rlip_assets.cli.servers.PROJECT_ROOT", tmp_path)
    log = tmp_path / "work/dagster.log"
    log.parent.mkdir()
    log.touch(0o644)
    assert _start(Server("Dagster", [sys.executable, "-c", "print(1)"])).wait() == 0
    assert (log.read_text(), log.stat().st_mode & 0o777) == ("1\n", 0o600)


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        with pytest.raises(BusyError, match="--dagster-port"):
            require_free(Server("Dagster", [], taken.getsockname()[1]))
