"""A damaged or foreign captioner folder is refused in one sentence, and never gives captions of a network that was not loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rlip_assets.labelling.captions.captioner import Captioner
from rlip_assets.lineage.params.labels import CaptionParams
from rlip_assets.storage.errors import InputError
from tests.support.label_factory import captioner_folder

PARAMS = CaptionParams(max_tokens=12)
FILES = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")


@pytest.fixture
def folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shutil.copytree(captioner_folder(tmp_path_factory.getbasetemp()), tmp_path / "captioner")
    return tmp_path / "captioner"


DAMAGES = {
    "cut off": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "no text": lambda file: file.write_bytes(b"\xff\xfe\x00"),
    "a list": lambda file: file.write_bytes(b"[1]"),
    "missing": lambda file: file.unlink(),
}


@pytest.mark.parametrize(
    ("name", "damage"),
    [(name, damage) for name in FILES for damage in DAMAGES if (name, damage) != ("tokenizer_config.json", "missing")],
)
def test_damaged_files_are_one_sentence(name: str, damage: str, folder: Path) -> None:
    DAMAGES[damage](folder / name)
    with pytest.raises(InputError, match=r"is no BLIP captioner .*; give a folder or hub name of one"):
        Captioner.open(folder, PARAMS)


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        ("preprocessor_config.json", "32", "64", "64 x 64 pixels prepared, but 32 x 32 encoded"),
        ("config.json", '"num_hidden_layers": 1', '"num_hidden_layers": 2', r"it has no .*\.1\..*weight"),
    ],
)
def test_parts_that_do_not_fit_are_named(file: str, old: str, new: str, reason: str, folder: Path) -> None:
    (folder / file).write_text((folder / file).read_text().replace(old, new))
    with pytest.raises(InputError, match=reason):
        Captioner.open(folder, PARAMS)
