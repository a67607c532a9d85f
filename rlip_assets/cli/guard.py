"""A guard for servers on localhost: only the machine's own pages, and only below a secret prefix."""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from rlip_assets.cli.servers import PREFIX_VARIABLE

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
