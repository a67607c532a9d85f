"""The machine and the packages of a run, which tell two runs apart that should have been equal."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import psutil

_MIB, _GIB = 2**20, 2**30


def machine() -> dict[str, Any]:
    """Name, system, processors, memory (GiB) and GPUs of this machine."""
    return {
        "node": platform.node(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / _GIB, 1),
        "gpus": gpus(),
    }


def gpus() -> list[str]:
    """Name, memory and driver of each GPU, as its driver's program tells them; empty without one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    told = subprocess.run(query, capture_output=True, text=True, check=False)
    return told.stdout.splitlines() if told.returncode == 0 else []


def gpu_memory() -> list[int]:
    """Return the bytes of each GPU's memory, as its driver tells them."""
    return [int(found[1]) * _MIB for line in gpus() if (found := re.search(r"(\d+) MiB", line))]


def memory_limit(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes of memory that a program may use here: the machine's, or fewer where its container has a limit."""
    total: int = psutil.virtual_memory().total
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # cgroup 2 and 1
        try:
            return min(total, int((cgroup / name).read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return total


def packages() -> dict[str, str]:
    """Installed packages and their versions, by name."""
    found = {str(each.metadata["Name"]): each.version for each in distributions() if each.metadata["Name"]}
    return dict(sorted(found.items(), key=lambda pair: pair[0].lower()))


def git(root: Path, *arguments: str) -> str | None:
    """Return what a git command prints in `root`; None outside a repository, without git, or where the command fails."""
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
