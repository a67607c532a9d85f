"""Dagster's web server for one user: `python -m dagster_project.webserver`, with the options of `dagster-webserver`.

Dagster's own runs mutations by GET, looks at neither Host nor Origin, and redirects from `/` to its path prefix, so any web page, and
any user of the machine, could launch and delete runs. Here all addresses begin with a secret prefix (DAGSTER_WEBSERVER_PATH_PREFIX),
nothing leads to it, and a page of another site is refused even if it knows it.
"""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import urlsplit

from dagster_webserver import app, cli
from dagster_webserver.webserver import DagsterWebserver
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from dagster_project.servers import PREFIX_VARIABLE

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine for itself. A page that rebinds its own name to 127.0.0.1 still sends that name; a forwarded port may be any."""


class Guard:
    """ASGI middleware that lets a request or WebSocket through only below `prefix`, from the machine itself and its own pages."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        if len(prefix) < 20:
            raise ValueError(f"{PREFIX_VARIABLE} must be a secret of at least 20 characters")
        self._app, self._prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the connection on, or answer 403 or 404."""
        if scope["type"] not in ("http", "websocket"):  # the server's own start and end
            await self._app(scope, receive, send)
            return
        status = self._refusal(scope["path"], Headers(scope=scope))
        if status is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
        else:
            await PlainTextResponse("refused: open the address that `rlip ui` printed\n", status)(scope, receive, send)

    def _refusal(self, path: str, headers: Headers) -> int | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or _name(f"//{hosts[0]}") not in LOOPBACK or any(o != f"http://{hosts[0]}" for o in origins):
            return 403
        start, rest = path[: len(self._prefix)].encode(), path[len(self._prefix) :]
        inside = secrets.compare_digest(start, self._prefix.encode()) and rest[:1] in ("", "/")
        return None if inside else 404


def _name(address: str) -> str | None:
    """Return the host name in an address, None where it has none."""
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


class GuardedWebserver(DagsterWebserver[Any, Any]):
    """Dagster's web server behind the guard."""

    def build_middleware(self) -> list[Middleware]:
        """Return Dagster's own middleware inside the guard."""
        own: list[Any] = super().build_middleware()
        return [Middleware(Guard, prefix=self._app_path_prefix), *own]


def main() -> None:
    """Run `dagster-webserver` with the guarded server in the place of its own."""
    app.DagsterWebserver = GuardedWebserver  # type: ignore[attr-defined]
    cli.main()


if __name__ == "__main__":
    main()
