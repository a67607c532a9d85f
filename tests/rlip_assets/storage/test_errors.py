"""Failures of the file system are one sentence with the path and the remedy; other errors keep their traceback."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from rlip_assets.storage.errors import BusyError, exit_with_sentence, explain


def test_every_failure_of_the_file_system_names_its_path_and_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    failures = {
        "name a file, not a folder": tmp_path,
        "a folder of this path is a file": tmp_path / "file" / "below",
        "correct the path": tmp_path / "none",
        "choose a shorter name": tmp_path / ("x" * 300),
        "leads to itself": loop,
    }
    for remedy, path in failures.items():
        with pytest.raises(OSError) as caught:  # noqa: PT011  # whichever the system raises
            path.read_text()
        sentence = str(explain(caught.value))
        assert str(path) in sentence
        assert remedy in sentence
    for code, remedy in ((errno.EROFS, "writable"), (errno.EACCES, "permission"), (errno.EDQUOT, "make room")):
        assert remedy in str(explain(OSError(code, os.strerror(code), "data/x")))


def test_the_cause_and_the_text_of_an_error_are_asked() -> None:
    wrapped = RuntimeError("definitions cannot be built")
    wrapped.__cause__ = PermissionError(errno.EACCES, "Permission denied", "dagster_home")
    assert str(explain(wrapped)).startswith("dagster_home: Permission denied; give this user permission")
    assert "make it writable" in str(explain(OSError("Read-only file system (os error 30)")))
    assert explain(RuntimeError("a bug")) is None


def test_a_database_that_cannot_be_written_has_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError) as caught:
        sqlite3.connect(tmp_path)
    assert "make it writable" in str(explain(caught.value))
    assert explain(sqlite3.OperationalError("no such table: sums")) is None


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (BusyError("port 3000 is in use"), 75, "rlip: port 3000 is in use\n"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "out"), 1, "rlip: out: Is a directory; name a file, not a folder\n"),
        (KeyboardInterrupt(), 130, "finished work is kept"),
        (BrokenPipeError(), 1, ""),
    ],
)  # fmt: skip
def test_commands_end_with_a_sentence(
    capsys: pytest.CaptureFixture[str], error: BaseException, status: int, words: str
) -> None:
    with pytest.raises(SystemExit) as caught, exit_with_sentence():
        raise error
    assert caught.value.code == status
    assert words in capsys.readouterr().err
    with pytest.raises(OSError, match="no number"), exit_with_sentence():
        raise OSError("no number")
