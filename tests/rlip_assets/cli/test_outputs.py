"""Every command that writes where its user says: new, or what it wrote before; all else stays as it is, after one sentence."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from rlip_assets.cli import app
from rlip_assets.datasets.scenes import make_scene, write_scenes
from rlip_assets.evaluation.formats.predictions import ImagePredictions, PredictionWriter
from rlip_assets.storage.errors import RlipError
from rlip_assets.storage.files import write_json
from rlip_model import ModelConfig, build_model, save_checkpoint, train_label_tokenizer
from rlip_model.checkpoints.importing import DETECTOR_SIGNS
from rlip_model.checkpoints.official_layout import official_state_dict

WORDS = ["person", "horse", "ride", "no objects"]
SCENE = make_scene("9", "coco", "test", "val2017/000000000009.jpg", 64, 48, [(0, 0, 9, 9), (3, 3, 20, 20)], WORDS[:2],
                   [(0, 1, "ride")], [0.75])  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A command line that works, and where it says what to write."""

    words: Callable[[Path, Path], list[str | Path]]
    """(folder of sources, output) to the arguments."""
    source: str
    """A file or folder that it reads, below the folder of sources."""
    folder: bool


COMMANDS = {
    "draw": Command(lambda s, o: ["draw", s / "photo.png", s / "relations.json", o], "photo.png", False),
    "predict": Command(lambda s, o: ["predict", s / "photo.png", "--model", s / "model", "--output", o], "photo.png", True),
    "package": Command(lambda s, o: ["package", s / "model", o], "model", True),
    "import-detector": Command(lambda s, o: ["import-detector", s / "boxes.pth", o], "boxes.pth", True),
    "import-checkpoint": Command(
        lambda s, o: ["import-checkpoint", s / "rlip.pth", o, "--tokenizer", s / "model"], "rlip.pth", True
    ),
    "labels export": Command(lambda s, o: ["labels", "export", s / "scenes", "--output", o], "scenes", False),
    "labels import": Command(lambda s, o: ["labels", "import", s / "labels.json", "--output", o], "labels.json", True),
    "evaluate per class": Command(lambda s, o: [*evaluation(s), "--per-class", o], "scores.parquet", False),
    "evaluate report": Command(lambda s, o: [*evaluation(s), "--report", o], "scores.parquet", True),
}  # fmt: skip


def evaluation(sources: Path) -> list[str | Path]:
    return ["evaluate", "open_images", "--predictions", sources / "scores.parquet", "--annotations", sources / "scenes"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources")
    Image.effect_noise((64, 48), 80).save(root / "photo.png")
    write_json(root / "relations.json", {"relations": []})
    torch.manual_seed(0)
    config = ModelConfig.preset("micro_parseda").without_dropout()
    config = replace(config, text=replace(config.text, heads=2))
    model, tokenizer = build_model(config).eval(), train_label_tokenizer(WORDS, 300)
    metadata = {"objects": WORDS[:2], "relations": ["ride"], "image_size": [64, 96]}
    save_checkpoint(root / "model", model, tokenizer, metadata)
    arguments = argparse.Namespace(nheads=4, gating_mechanism="VXAc")
    torch.save({"model": official_state_dict(model), "args": arguments}, root / "rlip.pth")
    torch.save({"model": {key: torch.zeros(2) for key in DETECTOR_SIGNS}}, root / "boxes.pth")
    write_scenes(root / "scenes", [SCENE])
    image = root / "data/raw/coco/val2017/000000000009.jpg"
    image.parent.mkdir(parents=True)
    Image.new("RGB", (64, 48)).save(image)
    (root / "params.yaml").write_text("profile: micro\n")
    labels = {"image_id": 9, "dataset": "coco2017", "data_split": "val2017", "relationships": []}
    labels["objects"] = [{"object_id": 1, "x": 0, "y": 0, "w": 9, "h": 9, "names": "person"}]
    write_json(root / "labels.json", [labels])
    classes = {"dataset": "open_images", "objects": WORDS[:2], "relations": ["ride"], "hois": [], "rare": []}
    write_json(root / "scenes/classes.json", {**classes, "splits": {}, "groups": {}})
    with PredictionWriter(root / "scores.parquet", "open_images", WORDS[:2], ["ride"], {}) as out:
        box, first, second = SCENE.boxes, np.array([0]), np.array([1])
        out.write(ImagePredictions("9", box[:1], box[1:], first, second, np.array([[0.9]], np.float32)))
    return root


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest, sources: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setattr("rlip_assets.cli.labels.profile_root", lambda name: sources)
    return COMMANDS[request.param]


def run(words: list[str | Path]) -> str | None:
    """Run a command; returns the sentence with which it ends, None for success."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exit_code == 0:
        return None
    assert isinstance(result.exception, RlipError), (result.output, result.exc_info)
    return str(result.exception)


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
    for output in (sources, sources / command.source):
        assert str(output) in (run(command.words(sources, output)) or "")
    if (sources / command.source).is_dir():
        assert "lies in" in (run(command.words(sources, sources / command.source / "output")) or "")
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
