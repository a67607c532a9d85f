"""`dvc.lock` beside a DVC process: what is read is never a part of the file."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pytest
import yaml

from rlip_assets.dvc.lock import LOCK_FILE, REPOSITORY_LOCK, DvcLock
from rlip_assets.storage.errors import DataError

STAGES = {f"labels@coco-{n}": {"cmd": f"rlip stage labels --partition coco-{n}"} for n in range(9)}
TEXT = yaml.safe_dump({"schema": "2.0", "stages": STAGES})
PART = TEXT[: TEXT.index("labels@coco-5")]
"""Valid YAML that lacks entries, as a file is while it is being written."""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[IO[str]]:
    """The repository lock of DVC, held as DVC holds it."""
    path = tmp_path / REPOSITORY_LOCK
    path.parent.mkdir(parents=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield stream


def test_a_part_of_the_file_would_be_read_without_complaint(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text(PART)
    assert len(DvcLock.read(tmp_path).entries) == 5


def test_a_file_that_is_being_written_is_waited_for(tmp_path: Path, held: IO[str]) -> None:
    (tmp_path / LOCK_FILE).write_text(PART)
    with ThreadPoolExecutor(1) as reader:
        found = reader.submit(DvcLock.read, tmp_path)
        time.sleep(0.3)
        assert not found.done()
        (tmp_path / LOCK_FILE).write_text(TEXT)
        fcntl.flock(held, fcntl.LOCK_UN)
        assert set(found.result(timeout=60).entries) == set(STAGES)


def test_an_old_file_is_read_while_dvc_works(tmp_path: Path, held: IO[str]) -> None:
    """DVC holds its lock for hours where it fetches data; it has long written the file then."""
    (tmp_path / LOCK_FILE).write_text(TEXT)
    os.utime(tmp_path / LOCK_FILE, (time.time() - 60, time.time() - 60))
    assert set(DvcLock.read(tmp_path).entries) == set(STAGES)
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # still ours


def test_dvc_can_lock_again_after_a_reading(tmp_path: Path, held: IO[str]) -> None:
    (tmp_path / LOCK_FILE).write_text(TEXT)
    fcntl.flock(held, fcntl.LOCK_UN)
    DvcLock.read(tmp_path)
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_no_file_is_an_empty_lock(tmp_path: Path, held: IO[str]) -> None:
    assert DvcLock.read(tmp_path).entries == {}


@pytest.mark.parametrize("content", [b"\xae\x00\xff", b"- 1\n", b"stages: [1]\n", b"stages: {a: 1}\n"])
def test_a_file_that_is_no_lock_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOCK_FILE).write_bytes(content)
    with pytest.raises(DataError, match=r"dvc\.lock is not a DVC lock file .*`rlip repair`"):
        DvcLock.read(tmp_path)
