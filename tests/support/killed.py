"""Stages run in processes that are killed with SIGKILL: before a chosen file operation, or at a chosen moment.

File operations are Python's audit events, so a stage under test holds no code for being killed. Processes are forked from a server that
has imported the stages already: a run costs its work alone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from rlip_assets.lineage.context import NullLog

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.copyfile"}
CONTEXT = multiprocessing.get_context("forkserver")


def preload(*modules: str) -> None:
    """Modules that the server imports; without effect once a process was started."""
    CONTEXT.set_forkserver_preload(["__main__", *modules])


@contextmanager
def _quiet(_: object) -> Iterator[NullLog]:
    yield NullLog()


def _run(root: Path, address: str, die_before: int, count_file: Path | None) -> None:
    """Run an item; die before its file operation number `die_before` (0: never), or write how many there were."""
    from rlip_assets.lineage.params import load_params
    from rlip_assets.lineage.profiles import relative_project
    from rlip_assets.lineage.registry import build_registry
    from rlip_assets.lineage.runner import run_stage

    os.chdir(root)
    params = load_params(root / "params.yaml")
    registry = build_registry(params, relative_project(root))
    item = registry.at(address)
    count = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event in _CHANGES or (event == "open" and _writes(arguments)):
            count += 1
            if count == die_before:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    run_stage(registry, params, root, item.stage, item.partition, _quiet)
    if count_file:
        count_file.write_text(str(count))


def _writes(arguments: tuple[object, ...]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def start(root: Path, address: str, die_before: int = 0, count_file: Path | None = None) -> ForkServerProcess:
    """A process that runs the item `address` of the profile at `root`."""
    process = CONTEXT.Process(target=_run, args=(root, address, die_before, count_file))
    process.start()
    return process


def run_whole(root: Path, address: str) -> float:
    """Run the item undisturbed; returns its seconds."""
    began = time.monotonic()
    process = start(root, address)
    process.join(timeout=300)
    assert process.exitcode == 0, f"{address} ended with {process.exitcode}"
    return time.monotonic() - began


def file_operations(root: Path, address: str) -> int:
    """Return how many file operations an undisturbed run has."""
    count_file = root / "file-operations"
    process = start(root, address, count_file=count_file)
    process.join(timeout=120)
    assert process.exitcode == 0
    return int(count_file.read_text())


def kill_before(root: Path, address: str, operation: int) -> None:
    """Run the item until it dies before this file operation."""
    process = start(root, address, die_before=operation)
    process.join(timeout=120)
    assert process.exitcode == -signal.SIGKILL, f"{address} ended with {process.exitcode} before operation {operation}"


def kill_after(root: Path, address: str, seconds: float) -> bool:
    """Run the item and kill it after some seconds; False where it had ended by then."""
    process = start(root, address)
    process.join(timeout=seconds)
    killed = process.exitcode is None
    process.kill()
    process.join()
    assert killed or process.exitcode in (0, -signal.SIGKILL), f"{address} ended with {process.exitcode}"
    return killed


def tree(*folders: Path) -> dict[str, bytes]:
    """Every file below some folders, by path: what has to be the same after a kill. Nothing unfinished may be left beside it."""
    return {
        str(file): file.read_bytes()
        for folder in folders
        for file in (sorted(folder.rglob("*")) if folder.is_dir() else [folder])
        if file.is_file()
    }
