"""The command line `rlip`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run `rlip`; a stage in the warm server where there is one (`warm_server.py`)."""
    if sys.argv[1:2] == ["stage"]:
        from rlip_assets.cli.warm_client import forward

        forward("rlip", sys.argv[1:])
    from rlip_assets.cli.application import run

    run()
