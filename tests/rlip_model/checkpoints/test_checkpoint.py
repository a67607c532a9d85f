"""A checkpoint folder holds everything that is needed, or is not there."""

from __future__ import annotations

import json
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlip_model.checkpoints.files import whole_folder
from rlip_model.checkpoints.folder import load_checkpoint, save_checkpoint
from rlip_model.model import Rlip, build_model
from rlip_model.text import LabelTokenizer, train_label_tokenizer
from tests.support.network_cases import make_batch, shake, small

TOKENIZER_TEXTS = ["person", "horse", "no objects", "ride"]


@pytest.fixture
def model() -> Rlip:
    model = build_model(small("micro_parseda"))
    shake(model)
    return model


@pytest.fixture
def tokenizer() -> LabelTokenizer:
    return train_label_tokenizer(TOKENIZER_TEXTS, 300)


def test_a_checkpoint_is_verified_when_it_is_opened(tmp_path: Path, model: Rlip, tokenizer: LabelTokenizer) -> None:
    save_checkpoint(tmp_path / "a", model, tokenizer, {})
    file = tmp_path / "a/model.safetensors"
    whole = file.read_bytes()
    for content in (whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:], whole[:-100]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
            load_checkpoint(tmp_path / "a")


def test_a_full_disk_keeps_the_checkpoint_that_was_there(
    tmp_path: Path, model: Rlip, tokenizer: LabelTokenizer
) -> None:
    """The limit on the size of files stands for the end of the disk: the write itself fails, half way."""
    save_checkpoint(tmp_path / "a", model, tokenizer, {"name": "old"})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OSError, match="cannot be written"):
            save_checkpoint(tmp_path / "a", model, tokenizer, {"name": "new"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load_checkpoint(tmp_path / "a").metadata == {"name": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_same_predictions_after_loading(tmp_path: Path, model: Rlip, tokenizer: LabelTokenizer) -> None:
    save_checkpoint(tmp_path / "a", model, tokenizer, {"name": "test", "figures": {"map": 1.5}})
    assert {file.stat().st_mode & 0o044 for file in (tmp_path / "a").iterdir()} == {0o044}  # others may read it
    checkpoint = load_checkpoint(tmp_path / "a")
    assert checkpoint.config == model.config
    assert checkpoint.metadata == {"name": "test", "figures": {"map": 1.5}}
    assert not checkpoint.model.training
    batch = make_batch(model.config)
    tokens, again = tokenizer(TOKENIZER_TEXTS), checkpoint.tokenizer(TOKENIZER_TEXTS)
    model.eval()
    with torch.no_grad():
        for a, b in zip(tokens, again, strict=True):
            assert torch.equal(a, b)
        pooled = model.encode_text(*tokens)
        assert torch.equal(pooled, checkpoint.model.encode_text(*again))
        mine, other = (m(batch.images, batch.mask, pooled, 3) for m in (model, checkpoint.model))
    assert torch.equal(mine.relation_logits, other.relation_logits)


def test_saving_twice_gives_the_same_bytes(tmp_path: Path, model: Rlip, tokenizer: LabelTokenizer) -> None:
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, model, tokenizer, {"x": 1})
    save_checkpoint(tmp_path / "b", model, tokenizer, {"x": 1})
    files = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert files == [
        "README.md",
        "config.json",
        "metadata.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b"]


def test_failure_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with whole_folder(target) as folder:
        (folder / "model.safetensors").write_text("old")

    def interrupted() -> None:
        with whole_folder(target) as folder:
            (folder / "model.safetensors").write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert (target / "model.safetensors").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_only_a_checkpoint_is_replaced(tmp_path: Path, model: Rlip, tokenizer: LabelTokenizer) -> None:
    models, link, file = tmp_path / "models", tmp_path / "link", tmp_path / "file"
    models.mkdir()
    (models / "rlip.pth").write_text("weights")
    link.symlink_to(models)
    file.write_text("weights")
    for target in (models, link, file):
        with pytest.raises(ValueError, match=f"{target.name} exists and is no checkpoint"):
            save_checkpoint(target, model, tokenizer, {})
    assert (models / "rlip.pth").read_text() == file.read_text() == "weights"
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "models"]


def test_half_precision_weights_are_widened(tmp_path: Path, model: Rlip, tokenizer: LabelTokenizer) -> None:
    save_checkpoint(tmp_path / "a", model, tokenizer, {})
    file = tmp_path / "a" / "model.safetensors"
    save_file(
        {name: value.half() if value.is_floating_point() else value for name, value in load_file(file).items()}, file
    )
    loaded = load_checkpoint(tmp_path / "a").model
    assert loaded.heads.projection.weight.dtype == torch.float32
    torch.testing.assert_close(loaded.heads.projection.weight, model.heads.projection.weight, atol=1e-3, rtol=1e-3)


def test_refuses_what_does_not_fit(tmp_path: Path, model: Rlip, tokenizer: LabelTokenizer) -> None:
    folder = tmp_path / "a"
    with pytest.raises(ValueError, match="is no model folder"):
        load_checkpoint(folder)
    save_checkpoint(folder, model, tokenizer, {})
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"format": 99}))
    with pytest.raises(ValueError, match="has format 99, this version reads 1"):
        load_checkpoint(folder)
    values["model"]["queries"] = 14
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"does not fit .* of another shape \(queries\."):
        load_checkpoint(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors is missing"):
        load_checkpoint(folder)


def test_tokenizer_must_fit_the_text_encoder(tmp_path: Path, tokenizer: LabelTokenizer) -> None:
    config = small("micro_parseda")
    model = build_model(replace(config, text=replace(config.text, vocabulary=100)))
    with pytest.raises(ValueError, match="text encoder only 100"):
        save_checkpoint(tmp_path / "a", model, tokenizer, {})
    assert not list(tmp_path.iterdir())
