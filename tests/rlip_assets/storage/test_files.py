"""Folders that are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlip_assets.storage.files import atomic_folder


def test_the_old_folder_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "table"
    with atomic_folder(folder) as temporary:
        (temporary / "a").write_text("old")
    with pytest.raises(IsADirectoryError), atomic_folder(folder) as temporary:
        temporary.write_text("this is a folder")
    assert [(file.name, file.read_text()) for file in folder.iterdir()] == [("a", "old")]
    assert list(tmp_path.iterdir()) == [folder]


def test_what_a_killed_writer_left_behind_is_removed(tmp_path: Path) -> None:
    left, other = tmp_path / ".table.0123abcd.tmp", tmp_path / ".table-2.0123abcd.tmp"
    for folder in (left, other):
        folder.mkdir()
        (folder / "half").write_text("x")
    with atomic_folder(tmp_path / "table"):
        pass
    assert not left.exists()
    assert other.exists()
