"""Files that a killed DVC leaves half-written are repaired, and nothing else is touched."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from hypothesis import given
from hypothesis import strategies as st

from rlip_assets.dvc.lock import DvcLock, parse_lock
from rlip_assets.dvc.repair import MOVED, holding, repair
from rlip_assets.lineage.profiles import PROJECT_ROOT
from rlip_assets.storage.errors import DataError

_WHOLE = (PROJECT_ROOT / "dvc.lock").read_text()
_STARTS = [match.start() for match in re.finditer(r"^  \S", _WHOLE, re.MULTILINE)]
LOCK, SECOND, MIDDLE = _WHOLE[: _STARTS[8]], _STARTS[1], _STARTS[4]
"""The first entries of a lock as DVC writes it, and where the second and one in the middle begin."""


def profile(folder: Path, lock: str = LOCK) -> Path:
    (folder / ".dvc/tmp").mkdir(parents=True)
    (folder / "dvc.lock").write_text(lock)
    return folder


@given(length=st.integers(0, len(LOCK) - 1))
def test_a_lock_cut_off_anywhere_is_one_that_dvc_reads(length: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = profile(tmp_path_factory.mktemp("cut"), LOCK[:length])
    repair(root)
    path, whole = root / "dvc.lock", list(parse_lock(LOCK, Path("whole")).items())
    if not path.exists():
        assert length < SECOND + len("  x")
        return
    COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(path.read_text()))
    found = list(DvcLock.read(root).entries.items())
    assert found[:-1] == whole[: max(len(found) - 1, 0)]
    assert len(found) >= LOCK[:length].count("\n    cmd: ") - 1
    assert repair(root) == []


def test_what_is_whole_stays(tmp_path: Path) -> None:
    root = profile(tmp_path)
    assert repair(root) == []
    assert (root / "dvc.lock").read_text() == LOCK
    assert repair(tmp_path / "nothing here") == []


def test_results_stay_current_where_an_update_moved_their_inputs(tmp_path: Path) -> None:
    earlier = LOCK
    for old, new in MOVED.items():
        earlier = earlier.replace(new, old)
    assert earlier != LOCK
    root = profile(tmp_path, earlier)
    (sentence,) = repair(root)
    assert "renamed, results stay current" in sentence
    assert (root / "dvc.lock").read_text() == LOCK


@pytest.mark.parametrize("damage", ["<<<<<<< HEAD\n", "\x00", "  - what\n"])
def test_damage_that_is_no_cut_is_left_to_a_person(tmp_path: Path, damage: str) -> None:
    root = profile(tmp_path, LOCK[:MIDDLE] + damage + LOCK[MIDDLE:])
    assert repair(root) == []
    assert (root / "dvc.lock").read_text() == LOCK[:MIDDLE] + damage + LOCK[MIDDLE:]
    with pytest.raises(
        DataError,
        match=r"dvc\.lock (is not a DVC lock file .*`rlip repair`|has merge conflicts).*`git checkout .*dvc\.lock`",
    ):
        DvcLock.read(root)


def test_files_that_dvc_is_writing_are_left_alone(tmp_path: Path) -> None:
    root = profile(tmp_path, LOCK[: SECOND + 10])
    (root / ".dvc/tmp/rwlock").write_text('{"read": ')
    with holding(root / ".dvc/tmp/lock") as first, holding(root / ".dvc/tmp/rwlock.lock") as second:
        assert first
        assert second
        assert repair(root) == []
    assert len(repair(root)) == 2
    assert not (root / ".dvc/tmp/rwlock").exists()


def test_busy_paths_of_processes_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    root = profile(tmp_path)
    path = root / ".dvc/tmp/rwlock"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, living = {"pid": gone.pid, "cmd": "dvc repro"}, {"pid": os.getpid(), "cmd": "dvc repro"}
    path.write_text(json.dumps({"write": {"/a": dead, "/b": living}, "read": {"/c": [dead, living]}}))
    (sentence,) = repair(root)
    assert "named paths of DVC processes that are gone" in sentence
    assert json.loads(path.read_text()) == {"write": {"/b": living}, "read": {"/c": [living]}}
    assert repair(root) == []
    os.utime(path, (0, 0))  # this process began later than the file was written: it has the number of another one
    assert len(repair(root)) == 1
    assert json.loads(path.read_text()) == {"write": {}, "read": {"/c": []}}
