"""Dagster's web server for one user: `python -m dagster_project.webserver`, with the options of `dagster-webserver`.

Dagster's own runs mutations by GET, looks at neither Host nor Origin, and redirects from `/` to its path prefix, so any web page, and
any user of the machine, could launch and delete runs. Here all addresses begin with a secret prefix (DAGSTER_WEBSERVER_PATH_PREFIX),
nothing leads to it, and a page of another site is refused even if it knows it.
"""

from __future__ import annotations

from typing import Any

from dagster_webserver import app, cli
from dagster_webserver.webserver import DagsterWebserver
from starlette.middleware import Middleware

from rlip_assets.cli.guard import Guard


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
