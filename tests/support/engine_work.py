"""Work for engines, in a module that worker processes import quickly."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlip_assets.lineage.shard_progress import rows_done


@dataclass(frozen=True)
class Meeting:
    """Done only when another worker does the other half at the same time; gives number, process and its niceness."""

    folder: Path

    def __call__(self, number: int) -> tuple[int, int, int]:
        (self.folder / str(number)).touch()
        deadline = time.monotonic() + 100
        while not (self.folder / str(number ^ 1)).exists():
            assert time.monotonic() < deadline, "no other worker came"
            time.sleep(0.02)
        return number, os.getpid(), os.nice(0)


@dataclass(frozen=True)
class Deadly:
    """Kills its worker."""

    def __call__(self, number: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return number


@dataclass(frozen=True)
class Counting:
    """A maker of shards that tells its rows, and waits until the stage has heard of them."""

    heard: Path

    def __call__(self, rows: list[int], folder: Path) -> dict[str, int]:
        for _ in rows:
            rows_done()
        deadline = time.monotonic() + 100
        while not self.heard.exists():
            assert time.monotonic() < deadline, "nobody heard"
            time.sleep(0.02)
            rows_done(0)
        (folder / "rows.txt").write_text(str(rows))
        return {"rows": len(rows)}


@dataclass(frozen=True)
class HeldOnANode:
    """A maker of shards that stops at the end of a shard on the Ray node `node`, and makes others when it has."""

    make: Callable[[list[Any], Path], dict[str, Any]]
    node: str
    held: Path

    def __call__(self, rows: list[Any], folder: Path) -> dict[str, Any]:
        import ray

        figures = self.make(rows, folder)
        deadline = time.monotonic() + 100
        if ray.get_runtime_context().get_node_id() == self.node:
            self.held.touch()
            time.sleep(600)
        while not self.held.exists():
            assert time.monotonic() < deadline, "no shard was made on the node"
            time.sleep(0.02)
        return figures
