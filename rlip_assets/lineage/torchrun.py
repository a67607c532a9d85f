"""One training in several processes of this machine: the command, such as `rlip stage`, becomes `torchrun` of itself.

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
    processes: int,
    arguments: Sequence[str],
    environment: Mapping[str, str] = os.environ,
    module: str = "rlip_assets.cli",
) -> list[str] | None:
    """Return the command that runs `python -m MODULE ARGUMENTS`, by default `rlip ARGUMENTS`, in `processes` processes.

    None where one is enough or they are running already.
    """
    if processes == 1 or "WORLD_SIZE" in environment:
        return None
    # The address is given since a machine's own name need not resolve; the processes would wait for each other in vain.
    where = ["--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={processes}"]
    return [sys.executable, "-m", "torch.distributed.run", *where, "--module", module, *arguments]
