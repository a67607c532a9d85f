"""The command line `rlip`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlip_assets.cli.application import app as app


def main() -> None:
    """Run `rlip`; a stage in the warm server where there is one (`warm_server.py`)."""
    if sys.argv[1:2] == ["stage"]:
        from rlip_assets.cli.warm_client import forward

        forward("rlip", sys.argv[1:])
    from rlip_assets.cli.application import run

    run()


def __getattr__(name: str) -> Any:
    """Import the application on first use: a warm command needs nothing of it."""
    if name == "app":
        from rlip_assets.cli.application import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
