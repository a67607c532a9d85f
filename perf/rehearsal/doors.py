"""The doors to the lineage, opened as a user does: the commands `rlip` and `dvc`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rlip_assets.lineage.profiles import PROJECT_ROOT
from rlip_assets.storage.errors import RlipError
from rlip_assets.storage.files import sha256_file

POLL_SECONDS = 0.2


class RehearsalError(RlipError):
    """A door did not lead where it should."""


def rlip(*arguments: str, check: bool = True) -> None:
    """Run `rlip` in the project's folder."""
    _run([sys.executable, "-m", "rlip_assets.cli", *arguments], PROJECT_ROOT, check)


def dvc(root: Path, *arguments: str) -> None:
    """Run `dvc` in a profile's folder."""
    _run(_dvc(*arguments), root, check=True)


def kill_in_the_middle(root: Path, target: str, busy: str) -> dict[str, str]:
    """Start `dvc repro TARGET` and kill it with all its children while the stage `busy` works; return what is finished then.

    Returns:
        Finished items with the digest of their provenance, by file name. Empty where `busy` was finished before the call.
    """
    if list((root / "provenance").glob(f"{busy}*.json")):
        return _finished(root)
    work = root / "work" / busy
    process = subprocess.Popen(_dvc("repro", target), cwd=root, env=_environment(), start_new_session=True)
    while process.poll() is None and not (work.is_dir() and any(work.iterdir())):
        time.sleep(POLL_SECONDS)
    if process.poll() is not None:
        raise RehearsalError(
            f"`dvc repro {target}` ended with status {process.returncode} before the stage {busy} began"
        )
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return _finished(root)


def resume(root: Path, target: str, finished: dict[str, str]) -> None:
    """Run `dvc repro TARGET` again after a kill; what was finished must not run again.

    Raises:
        RehearsalError: it did.
    """
    rlip("repair", "--profile", root.name)
    dvc(root, "repro", target)
    now = _finished(root)
    if again := [name for name, digest in finished.items() if now.get(name) != digest]:
        raise RehearsalError(f"{', '.join(again)} had finished before the kill and ran again")


def nothing_to_do(root: Path) -> None:
    """Raise RehearsalError unless DVC finds every stage current."""
    done = subprocess.run(_dvc("status"), cwd=root, env=_environment(), capture_output=True, text=True, check=True)
    if "up to date" not in done.stdout:
        raise RehearsalError(f"`dvc status` after everything ran: {done.stdout}")
    print(done.stdout.strip())


def _finished(root: Path) -> dict[str, str]:
    return {file.name: sha256_file(file) for file in (root / "provenance").glob("*.json")}


def _dvc(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]


def _environment() -> dict[str, str]:
    """The environment with this interpreter's commands in front, for DVC's stages call `rlip` by name."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def _run(command: Sequence[str], folder: Path, check: bool) -> None:
    print(f"$ {' '.join(['rlip' if 'rlip_assets.cli' in command else 'dvc', *command[3:]])}", flush=True)
    status = subprocess.run(command, cwd=folder, env=_environment(), check=False).returncode
    if check and status:
        raise RehearsalError(f"`{' '.join(command[2:])}` ended with status {status}; the lines above say why")
