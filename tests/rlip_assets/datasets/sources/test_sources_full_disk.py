"""A full disk ends a stage with one sentence, nothing half-written takes its place, and the next run goes on to the same bytes."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rlip_assets import cli
from rlip_assets.cli import application
from rlip_assets.datasets.sources import stage
from rlip_assets.storage.errors import explain

IMAGES = 40


@pytest.fixture
def coco(raw: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(stage, "ROWS_PER_SHARD", 10)
    names = [f"{number:012d}.jpg" for number in range(IMAGES)]
    images = [{"id": n, "file_name": name, "width": 40, "height": 30} for n, name in enumerate(names)]
    boxes = [{"id": n, "image_id": n, "category_id": 18, "bbox": [1, 1, 9, 9]} for n in range(IMAGES)]
    categories = [{"id": 18, "name": "dog"}]
    raw.json("annotations/instances_train2017.json", {"images": images, "annotations": boxes, "categories": categories})
    for name in names:
        raw.image(f"train2017/{name}")
    return raw


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_a_write_that_finds_no_room(coco: Any, lineage: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = lineage("coco")
    lines.run()
    whole = content(lines.table())
    assert len(whole) > 3
    other = type(lines)(lines.base.parent / "other", "coco", root=str(coco.root))
    other.manifest()
    write, calls = pq.write_table, 0

    def no_room_for_the_third(*arguments: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            Path(arguments[1]).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", no_room_for_the_third)
        with pytest.raises(OSError, match="No space left") as caught:
            other.scenes()
    assert "make room" in str(explain(caught.value))
    assert not list(other.table().iterdir())
    assert not list((other.base / "work").rglob("*.tmp"))
    assert other.scenes()["images"] == IMAGES
    assert content(other.table()) == whole


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)  # the caught error may still hold an open database


@pytest.mark.deep
def test_a_disk_that_is_really_full(coco: Any, small_disk: Path, lineage: Callable[..., Any]) -> None:
    undisturbed = lineage("coco")
    undisturbed.run()
    lines = type(undisturbed)(small_disk / "profile", "coco", root=str(coco.root))
    lines.manifest()
    ballast = small_disk / "ballast"
    room = os.statvfs(small_disk)
    ballast.write_bytes(bytes(room.f_bavail * room.f_frsize - 48 * 1024))
    with pytest.raises((OSError, sqlite3.OperationalError)) as caught:
        lines.scenes()
    assert "make room" in str(explain(caught.value))
    assert not (lines.table() / "table.json").exists()
    ballast.unlink()
    for file in lines.table().iterdir():  # the runner gives a stage empty outputs
        file.unlink()
    lines.scenes()
    assert content(lines.table()) == content(undisturbed.table())


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "rlip: No space left on device",
        ),
        (
            sqlite3.OperationalError("database or disk is full"),
            "rlip: a database cannot be used (database or disk is full)",
        ),
    ],
)
def test_the_command_line_says_it_in_one_sentence(
    error: Exception, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr(application, "app", fails)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    said = capsys.readouterr().err.strip()
    assert said == f"{sentence}; make room and run this again, finished work is kept"


def test_other_failures_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise OSError(errno.EFAULT, "Bad address")

    monkeypatch.setattr(application, "app", fails)
    with pytest.raises(OSError, match="Bad address"):
        cli.main()
