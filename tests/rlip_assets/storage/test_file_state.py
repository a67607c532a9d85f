"""A file with other content never passes for the one before: not with its size and time, nor within one step of the clock."""

from __future__ import annotations

import os
from pathlib import Path
from time import time_ns

import pytest

from rlip_assets.storage import checksums, file_state
from rlip_assets.storage.checksums import Checksums
from rlip_assets.storage.file_state import Stamp, change_stamp, content_state, is_settled
from rlip_assets.storage.files import sha256_file

SECOND = 1_000_000_000


def replace(path: Path, content: str) -> None:
    """Write other content of the same size and restore the time of modification, as unpacking an archive does."""
    before = path.stat()
    path.write_text(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.fixture
def frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose time of the last change stands still, as within one step of the clock."""
    path, now = tmp_path / "a", time_ns()
    path.write_text("one")

    def stamp(path: Path) -> Stamp | None:
        return (path.stat().st_size, now) if path.is_file() else None

    for module in (file_state, checksums):
        monkeypatch.setattr(module, "change_stamp", stamp)
    monkeypatch.setattr(file_state, "time_ns", lambda: now + 1_000_000)
    return path


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time_ns()
    monkeypatch.setattr(file_state, "time_ns", lambda: now + 60 * SECOND)


def test_time_of_modification_can_be_set_back_and_that_of_the_change_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    later(monkeypatch)
    state = content_state(path)
    assert state == (*(change_stamp(path) or ()), "") == content_state(path)
    replace(path, "two")
    assert content_state(path) != state
    for nothing in (tmp_path / "absent", tmp_path):
        assert change_stamp(nothing) is None
        assert content_state(nothing) is None


def test_until_it_is_settled_the_state_of_a_file_is_its_content(frozen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = content_state(frozen)
    assert state == content_state(frozen)
    frozen.write_text("two")
    assert content_state(frozen) not in (state, None)
    later(monkeypatch)
    state = content_state(frozen)
    assert state is not None
    assert state[2] == ""


def test_times_in_whole_seconds_settle_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_state, "time_ns", lambda: 100 * SECOND)
    assert is_settled((3, 99 * SECOND + 1))
    assert not is_settled((3, 99 * SECOND))
    assert is_settled((3, 97 * SECOND))
    assert not is_settled((3, 101 * SECOND))  # the clock of another machine


def test_checksums_of_files_that_are_not_settled_are_not_kept(frozen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = frozen.parent
    for content in ("one", "two"):
        frozen.write_text(content)
        with Checksums(folder / "cache.sqlite", folder) as sums:
            assert sums.of("a") == (3, sha256_file(frozen))
            assert not sums.names()
    later(monkeypatch)
    with Checksums(folder / "cache.sqlite", folder) as sums:
        assert sums.of("a") == (3, sha256_file(frozen))
        assert sums.names() == {"a"}


def test_checksums_follow_a_file_with_the_size_and_time_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    later(monkeypatch)
    for content in ("two", "one"):
        with Checksums(tmp_path / "cache.sqlite", tmp_path) as sums:
            assert sums.of("a") == (3, sha256_file(path))
        replace(path, content)
