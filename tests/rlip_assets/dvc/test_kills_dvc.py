"""DVC and the stage under it, killed together at any moment: the next `dvc repro` starts at once and ends with the same bytes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from rlip_assets.lineage.registry import load_registry
from tests.support.dvc_project import DvcProject
from tests.support.killed import tree

pytestmark = pytest.mark.deep

KILLS = 20
TARGET = "scenes@coco-0"
"""Reached through the micro world and the raw manifest: three stages without torch, for each kill costs a start of DVC and a stage."""


@dataclass(frozen=True)
class Undisturbed:
    """A lineage that nothing was killed in: what it made and in how many seconds."""

    files: dict[str, bytes]
    seconds: float


def made_by(project: DvcProject) -> dict[str, bytes]:
    """Every file of the target's outputs and of all that it follows from; provenance tells of the run and differs."""
    registry = load_registry(project.root)
    wanted, above = set(), [TARGET]
    while above:
        address = above.pop()
        wanted.add(address)
        above += registry.parents[address]
    outputs = [project.root / path for address in wanted for path in registry.at(address).outputs.values()]
    found = tree(*outputs, project.root / "data/raw/coco")
    return {name.removeprefix(str(project.root)): data for name, data in found.items()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    project = DvcProject.make(tmp_path_factory.mktemp("undisturbed") / "project")
    began = time.monotonic()
    project.run("dvc", "repro", TARGET)
    return Undisturbed(made_by(project), time.monotonic() - began)


def repro(project: DvcProject, seconds: float | None) -> bool | None:
    """`dvc repro` of the target: True where it ended well, False where it was killed after some seconds.

    None where it could not begin, since a kill had cut off one of DVC's own files; then that is mended.
    """
    process = project.start("dvc", "repro", TARGET)
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return False
    if process.returncode:
        assert "was cut off by a kill" in project.run("rlip_assets.cli", "repair"), output[-3000:]
        return None
    return True


def test_dvc_and_its_stage_killed_together_go_on_at_once(undisturbed: Undisturbed, tmp_path: Path) -> None:
    moments = random.Random("kills")
    kills = ends = mended = 0
    project = DvcProject.make(tmp_path / "0")
    while kills < KILLS:
        ended = repro(project, moments.uniform(0.0, undisturbed.seconds))
        if ended:
            assert made_by(project) == undisturbed.files
            ends += 1
            shutil.rmtree(project.root)
            project = DvcProject.make(tmp_path / str(ends))
        mended += ended is None
        kills += ended is False
    assert repro(project, None) or repro(project, None)
    assert made_by(project) == undisturbed.files
    assert "up to date" in project.run("dvc", "status", TARGET)
    left = [name for folder in os.walk(project.root) for name in [*folder[1], *folder[2]] if name.endswith(".tmp")]
    assert left == []
    print(f"{kills} kills, {ends} undisturbed ends on the way, {mended} files of DVC's own were cut off")
