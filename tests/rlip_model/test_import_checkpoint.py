"""Released files: recognised from keys and shapes, opened safely, refused when they do not fit."""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rlip_model import ModelConfig, build_model, load_checkpoint, train_label_tokenizer
from rlip_model.import_checkpoint import import_checkpoint, read_released, recognise
from rlip_model.official import official_state_dict

KEYS = Path(__file__).parents[3] / "shared" / "spec" / "checkpoint-keys"


def micro(preset: str = "micro_parseda") -> ModelConfig:
    config = ModelConfig.preset(preset)
    return replace(config, text=replace(config.text, heads=2))  # released text encoders have heads of width 64


def args(**values: object) -> argparse.Namespace:
    return argparse.Namespace(**({"nheads": 4, "gating_mechanism": "VXAc", "dataset_file": "hico"} | values))


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    train_label_tokenizer(["person", "ride", "horse"], 300).save(folder)
    return str(folder)


@pytest.fixture
def released(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    file = tmp_path / "official.pth"
    torch.save({"model": official_state_dict(build_model(micro())), "epoch": 19, "args": args()}, file)
    return file


@pytest.mark.parametrize(
    ("table", "preset", "queries"),
    [
        ("parseda_r50", "parseda_r50", 200),
        ("parsed_r50", "parsed_r50", 200),
        ("tagger", "tagger_r50", 200),
        ("parseda_swinT", "parseda_swin_tiny", 128),
        ("parseda_swinL", "parseda_swin_large", 128),
    ],
)
def test_every_released_layout_is_recognised(table: str, preset: str, queries: int) -> None:
    file = KEYS / f"{table}.tsv"
    if not file.is_file():
        pytest.skip(f"the official key lists are not at {KEYS}")
    rows = [line.split("\t") for line in file.read_text().splitlines()[1:]]
    state = {
        row[0]: torch.empty([int(n) for n in row[1].strip("[]").split(",") if n.strip()], device="meta") for row in rows
    }
    expected = replace(ModelConfig.preset(preset), queries=queries)
    assert recognise(state, gate=expected.gate).config == expected


def test_import_gives_the_same_outputs(released: Path, tokenizer: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    original = build_model(micro()).eval()
    import_checkpoint(released, tmp_path / "model", tokenizer)
    loaded = load_checkpoint(tmp_path / "model")
    assert loaded.metadata["subject_scores"] is False
    assert "gating_mechanism" in loaded.metadata["evidence"]["gate"]
    image, mask = torch.randn(1, 3, 96, 128), torch.zeros(1, 96, 128, dtype=torch.bool)
    tokens = loaded.tokenizer(["person", "horse", "no objects", "ride"])
    with torch.no_grad():
        outputs = [m(image, mask, m.encode_text(*tokens), 3) for m in (original, loaded.model)]
    assert torch.equal(outputs[0].relation_logits, outputs[1].relation_logits)
    assert torch.equal(outputs[0].sub_boxes, outputs[1].sub_boxes)


def gamma(first: float, rest: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.tensor([first]), rest])


def test_gate_without_a_stored_command_line() -> None:
    state = official_state_dict(build_model(micro()))
    keys = [key for key in state if key.endswith(("gamma_v", "gamma_l"))]
    with pytest.raises(ValueError, match="--gate"):
        recognise(state, {"nheads": 4})
    assert recognise(state, {"nheads": 4}, gate="none").config.gate == "none"
    for key in keys:
        state[key] = gamma(0.3, torch.full((len(state[key]) - 1,), 0.25))
    assert recognise(state, {"nheads": 4}).config.gate == "vxac"
    for key in keys:
        state[key] = torch.randn(len(state[key]))
    assert recognise(state, {"nheads": 4}).config.gate == "glip"


def test_a_file_that_does_not_fit_is_refused_by_name(released: Path, tokenizer: str, tmp_path: Path) -> None:
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = torch.load(released, weights_only=True)
    del content["model"]["projection_text.weight"]
    content["model"]["stranger"] = torch.zeros(1)
    torch.save(content, released)
    with pytest.raises(ValueError, match=r"projection_text\.weight.*stranger"):
        import_checkpoint(released, tmp_path / "model", tokenizer)
    assert not (tmp_path / "model").exists()


def test_without_a_tokenizer_nothing_is_written(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="tokenizer"):
        import_checkpoint(released, tmp_path / "model", str(tmp_path / "no-tokenizer-here"))
    assert not (tmp_path / "model").exists()


class Hostile:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def test_a_hostile_file_runs_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save({"model": {"a": torch.zeros(1)}, "args": Hostile(f"touch {trace}")}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match="could run code"):
        read_released(tmp_path / "bad.pth")
    assert not trace.exists()


@pytest.mark.parametrize("kept", [0, 10, 5000])
def test_truncated_files_are_refused(released: Path, kept: int) -> None:
    released.write_bytes(released.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"official\.pth"):
        read_released(released)


def test_a_file_without_weights_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match="no weights"):
        read_released(tmp_path / "empty.pth")
    with pytest.raises(ValueError, match="does not exist"):
        read_released(tmp_path / "absent.pth")
