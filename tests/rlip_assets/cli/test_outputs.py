"""Every command that writes where its user says: new, or what it wrote before; all else stays as it is, after one sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command_lines import Command, run


def content(root: Path) -> dict[str, bytes | str]:
    """Everything below a folder: bytes of files, targets of links, "" for folders."""
    return {
        str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else "" if path.is_dir() else path.read_bytes()
        for path in root.rglob("*")
    }  # fmt: skip


def test_a_new_output_may_be_made_again(command: Command, sources: Path, tmp_path: Path) -> None:
    output = tmp_path / "new/folders/output"
    assert run(command.words(sources, output)) is None
    first = content(tmp_path)
    assert output.is_dir() == command.folder
    assert run(command.words(sources, output)) is None
    assert content(tmp_path).keys() == first.keys(), "nothing is left beside the output"


def test_what_was_added_or_changed_by_hand_is_kept(command: Command, sources: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    assert run(command.words(sources, output)) is None
    if command.folder:
        (output / "notes.txt").write_text("mine")
        before = content(tmp_path)
        assert "notes.txt" in (run(command.words(sources, output)) or "")
        assert content(tmp_path) == before
        (output / "notes.txt").unlink()
        edited = next(path for path in sorted(output.rglob("*")) if path.is_file() and not path.name.startswith("."))
        edited.write_bytes(edited.read_bytes() + b"\n")
    else:
        output.write_text('[{"image_id": 1}]')
    before = content(tmp_path)
    assert str(output) in (run(command.words(sources, output)) or "")
    assert content(tmp_path) == before


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "precious.pth").write_text("mine")


def _link(path: Path) -> None:
    _folder(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


OCCUPIED: dict[str, Callable[[Path], object]] = {
    "file": lambda path: path.write_text("mine"),
    "empty file": lambda path: path.touch(),
    "folder": _folder,
    "folder in folder": lambda path: (path / "mine").mkdir(parents=True),
    "link to a folder": _link,
    "link to a file": lambda path: (path.with_name("file").write_text("mine"), path.symlink_to("file")),
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "pipe": os.mkfifo,
}


@pytest.mark.parametrize("kind", OCCUPIED)
def test_what_stands_there_is_kept(command: Command, kind: str, sources: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    OCCUPIED[kind](output)
    pipe = kind == "pipe"
    before = None if pipe else content(tmp_path)
    sentence = run(command.words(sources, output))
    assert str(output) in (sentence or "")
    assert output.is_fifo() if pipe else content(tmp_path) == before


def test_nothing_is_written_below_a_file(command: Command, sources: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert f"{tmp_path / 'file'} is no folder" in (run(command.words(sources, tmp_path / "file/output")) or "")
    assert content(tmp_path) == {"file": b"mine"}


def test_the_source_and_what_lies_beside_it_are_kept(command: Command, sources: Path) -> None:
    before = content(sources)
    for output in (sources, sources / command.inputs[0]):
        assert str(output) in (run(command.words(sources, output)) or "")
    if (sources / command.inputs[0]).is_dir():
        assert "lies in" in (run(command.words(sources, sources / command.inputs[0] / "output")) or "")
    assert content(sources) == before


def test_a_failure_leaves_no_folders(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_text("no weights")
    before = content(tmp_path)
    tokenizer: list[str | Path] = ["--tokenizer", sources / "model"]
    for command, options in (("import-detector", []), ("import-checkpoint", tokenizer)):
        assert "bad.pth" in (run([command, tmp_path / "bad.pth", tmp_path / "a/b/c", *options]) or "")
    assert content(tmp_path) == before


def test_predictions_are_added_to_a_folder_of_predictions(sources: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes((sources / "photo.png").read_bytes())
        words: list[str | Path] = [
            "predict",
            tmp_path / f"{name}.png",
            "--model",
            sources / "model",
            "--output",
            tmp_path / "found",
        ]
        assert run(words) is None
    assert {path.name for path in (tmp_path / "found").glob("*.json")} == {"a.json", "b.json"}
    (tmp_path / "found/a.json").write_text("{}")
    assert run(words) is None, "only what would be replaced is compared"


def test_photos_that_cannot_be_read_are_left_out(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no image")
    os.mkfifo(tmp_path / "pipe.png")
    photos = [tmp_path / "bad.png", sources / "photo.png", tmp_path / "missing.png", tmp_path, tmp_path / "pipe.png"]
    sentence = run(["predict", *photos, "--model", sources / "model", "--output", tmp_path / "found"]) or ""
    assert sentence.startswith("4 of 5 photos were left out")
    assert all(str(photo) in sentence for photo in photos[2:])
    assert json.loads((tmp_path / "found/photo.json").read_text())["photo"] == "photo.png"
