"""A real S3-compatible server (SeaweedFS), and a door in front of it that fails one request in five."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KEY, SECRET = "test-key", "test-secret"


def weed_program() -> str:
    """Return the path of SeaweedFS's program (`requirements/deep.txt`); tests marked `s3` run only where there is one."""
    program = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    assert program, "a test that needs an S3 server is marked s3"
    return program


def free_ports(count: int) -> list[int]:
    """Ports below 50000, for SeaweedFS adds 10000 to each for its own calls."""
    ports: list[int] = []
    for port in range(21000 + time.time_ns() % 20000, 49000):
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise AssertionError("no free ports")


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """A server that keeps its objects in `folder`; yields its address."""
    program = weed_program()
    identity = {"name": "tester", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    master, volume, filer, s3 = free_ports(4)
    command = [program, "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += [f"-master.port={master}", f"-volume.port={volume}", "-filer", f"-filer.port={filer}"]
    command += ["-s3", f"-s3.port={s3}", f"-s3.config={folder / 's3.json'}"]
    command += ["-volume.max=20", "-master.volumeSizeLimitMB=64"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
        try:
            _wait_for(process, s3, folder / "server.log")
            yield f"http://127.0.0.1:{s3}"
        finally:
            process.terminate()
            try:
                process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path, limit: float = 60) -> None:
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"the S3 server did not start: {log.read_text()[-2000:]}")


class Door:
    """Passes requests on to a server; every fifth fails, by turns with an error, half an answer, or a cut connection.

    `failures` and `requests` count them; `seen` lists (method, path, range) of those that went through.
    """

    def __init__(self, address: str, every: int = 5) -> None:
        self.server = address.removeprefix("http://")
        self.every, self.requests, self.failures = every, 0, 0
        self.seen: list[tuple[str, str, str | None]] = []
        self.cut_after: int | None = None
        self._lock = threading.Lock()

    def next_failure(self) -> str | None:
        """Fault of the request that comes in now."""
        with self._lock:
            self.requests += 1
            if self.every and self.requests % self.every == 0:
                self.failures += 1
                return ("error", "half", "cut")[self.failures % 3]
            return None


@contextmanager
def open_door(door: Door) -> Iterator[str]:
    """Serve a door; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            failure = door.next_failure()
            self.close_connection = True
            if failure == "cut":
                return
            if failure == "error":
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            connection = http.client.HTTPConnection(door.server, timeout=60)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
            with door._lock:
                door.seen.append((self.command, self.path, self.headers.get("Range")))
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if failure == "half" else content)
            connection.close()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
