"""One stage in several processes of this machine: `rlip stage` becomes `torchrun` of itself.

The first process is the stage as everyone knows it; the others compute their part and write nothing. Imports no torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence


def process_index(environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of this process among those that were started together; 0 alone."""
    return int(environment.get("RANK", "0"))


def launch_command(
    processes: int, arguments: Sequence[str], environment: Mapping[str, str] = os.environ
) -> list[str] | None:
    """Return the command that runs `rlip ARGUMENTS` in `processes` processes; None where one is enough or they are running already."""
    if processes == 1 or "WORLD_SIZE" in environment:
        return None
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [*torchrun, "--module", "rlip_assets.cli", *arguments]
