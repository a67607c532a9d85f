"""Folders that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import mkstemp

import pytest

from rlip_assets.storage.files import atomic_file, atomic_folder


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


@pytest.mark.parametrize(("umask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750)])
def test_written_files_have_the_permissions_of_the_umask(
    tmp_path: Path, umask: int, file_mode: int, folder_mode: int
) -> None:
    """Libraries write through temporary files that their owner alone may read."""
    before = os.umask(umask)
    try:
        with atomic_folder(tmp_path / "table") as folder:
            os.close(mkstemp(dir=folder)[0])
            (folder / "part").mkdir(0o700)
            (folder / "link").symlink_to(tmp_path)
        with atomic_file(tmp_path / "file") as temporary:
            os.close(os.open(temporary, os.O_CREAT, 0o600))
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "table").iterdir() if not path.is_symlink()}
    assert modes.pop("part") == folder_mode
    assert set(modes.values()) == {file_mode}
    assert (tmp_path / "file").stat().st_mode & 0o777 == file_mode
    assert (tmp_path / "table").stat().st_mode & 0o777 == folder_mode
