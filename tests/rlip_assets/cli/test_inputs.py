"""Every command ends with one sentence, and leaves nothing behind, when something that it reads is not what it should be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command_lines import COMMANDS, run


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "precious").write_text("mine")


WRONG: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "a folder": _folder,
    "an empty folder": Path.mkdir,
    "empty": Path.touch,
    "bytes": lambda path: path.write_bytes(bytes(range(256)) * 40),
    "text": lambda path: path.write_text("[1, 2"),
    "json of another form": lambda path: path.write_text('{"format": [], "images": 3}'),
    "a pipe": os.mkfifo,  # within a folder; a pipe that is named may be meant
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize(("name", "wrong"), [(name, part) for name in COMMANDS for part in COMMANDS[name].inputs])
def test_a_wrong_input_is_one_sentence(
    name: str, wrong: str, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, (kind, make) in enumerate(WRONG.items()):
        if kind == "a pipe" and "/" not in wrong:
            continue
        root, output = tmp_path / f"{number}", tmp_path / f"{number}-out"
        shutil.copytree(sources, root, copy_function=os.link)
        monkeypatch.setattr("rlip_assets.cli.labels.profile_root", lambda _, root=root: root)
        shutil.rmtree(root / wrong) if (root / wrong).is_dir() else (root / wrong).unlink()
        make(root / wrong)
        sentence = run(COMMANDS[name].words(root, output))
        assert sentence is None or ("\n" not in sentence and not output.exists())
