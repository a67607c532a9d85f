"""Interpolated weights lie between their parents, are the parents at the ends, and come from one network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from rlip_model import CheckpointError, LabelTokenizer, build_model, load_checkpoint, train_label_tokenizer
from rlip_model.checkpoints.files import content_digest, read_json, read_tensors
from rlip_model.checkpoints.folder import save_checkpoint
from rlip_model.checkpoints.merging import Parent, check_parents, merged_tensors, save_merged
from tests.support.network_cases import make_batch, shake, small

CONFIG = small("micro_parseda")
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)
TENSORS = st.lists(st.tuples(FLOATS, FLOATS, st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=6)


def bits(value: Tensor) -> list[int]:
    return value.contiguous().view(torch.uint8).tolist()


def pair(rows: list[tuple[float, float, int, int]]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    one, two, counts, others = (torch.tensor(column) for column in zip(*rows, strict=True))
    return {"w": one, "n": counts}, {"w": two, "n": others}


@given(TENSORS, st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_each_weight_lies_between_its_parents(rows: list[tuple[float, float, int, int]], alpha: float) -> None:
    one, two = pair(rows)
    found = merged_tensors(one, two, alpha)
    low, high = torch.minimum(one["w"], two["w"]), torch.maximum(one["w"], two["w"])
    assert bool(((found["w"] >= low) & (found["w"] <= high)).all())
    assert torch.equal(found["n"], (one if alpha >= 0.5 else two)["n"])
    assert torch.equal(merged_tensors(one, one, alpha)["w"], one["w"])
    for end, parent in ((1.0, one), (0.0, two)):
        ends = merged_tensors(one, two, end)
        assert [bits(ends[name]) for name in parent] == [bits(value) for value in parent.values()]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda w: {"w": w}, "the fine-tuned network has b, which its start lacks"),
        (lambda w: {"w": w, "b": w, "c": w}, "its start has c, which the fine-tuned network lacks"),
        (
            lambda w: {"w": w, "b": w[:1]},
            r"b is float32 \[2\] in the fine-tuned network and float32 \[1\] in its start",
        ),
        (lambda w: {"w": w.half(), "b": w}, r"w is float32 \[2\] in the fine-tuned network and float16 \[2\]"),
        (lambda w: {"w": w, "b": w * torch.nan}, "its start: b holds NaN or infinity"),
        (lambda w: {"w": w / 0, "b": w}, "its start: w holds NaN or infinity"),
    ],
)
def test_a_start_of_another_network_is_refused_by_the_name_of_the_tensor(change, sentence: str) -> None:  # type: ignore[no-untyped-def]
    weights = torch.ones(2)
    with pytest.raises(CheckpointError, match=sentence):
        merged_tensors({"w": weights, "b": weights}, change(weights), 0.5)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_share_out_of_range_is_refused(alpha: float) -> None:
    with pytest.raises(CheckpointError, match="from 0 to 1"):
        merged_tensors({}, {}, alpha)


@pytest.fixture(scope="module")
def tokenizer() -> LabelTokenizer:
    return train_label_tokenizer(["person", "horse", "ride"], 300)


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory, tokenizer: LabelTokenizer) -> tuple[Path, Path]:
    """A fine-tuned checkpoint and its start."""
    root = tmp_path_factory.mktemp("parents")
    for seed, name in enumerate(("tuned", "start")):
        torch.manual_seed(seed)
        model = build_model(CONFIG)
        shake(model)
        save_checkpoint(root / name, model, tokenizer, {"name": name, "objects": ["horse"], "figures": {"full": 0.5}})
    return root / "tuned", root / "start"


def test_a_merged_folder_opens_and_names_both_parents(parents: tuple[Path, Path], tmp_path: Path) -> None:
    tuned, start = (Parent.read(folder) for folder in parents)
    save_merged(tmp_path / "half", tuned, start, 0.25)
    checkpoint = load_checkpoint(tmp_path / "half")
    assert checkpoint.metadata["merged"] == {
        "alpha": 0.25,
        "finetuned": {"name": "tuned", "weights": content_digest(tuned.tensors)},
        "start": {"name": "start", "weights": content_digest(start.tensors)},
    }
    assert checkpoint.metadata["objects"] == ["horse"]
    assert "figures" not in checkpoint.metadata
    one, two, found = (load_checkpoint(folder).model.state_dict() for folder in (*parents, tmp_path / "half"))
    for name, value in found.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.25 * one[name] + 0.75 * two[name])
    batch = make_batch(CONFIG)
    with torch.no_grad():
        assert checkpoint.model(batch.images, batch.mask, batch.pooled, 7).relation_logits.isfinite().all()
    for alpha, parent in ((1.0, tuned), (0.0, start)):
        save_merged(tmp_path / "end", tuned, start, alpha)
        assert content_digest(read_tensors(tmp_path / "end/model.safetensors")) == content_digest(parent.tensors)


def test_a_start_in_the_place_of_the_fine_tuned_network_is_refused(parents: tuple[Path, Path]) -> None:
    one, two = (Parent.read(folder) for folder in parents)
    start, tuned = replace(one, metadata={"stage": "pretrain"}), replace(two, metadata={"stage": "finetune"})
    with pytest.raises(CheckpointError, match=r"tuned is pre-trained and .*start fine-tuned: .*swap the two"):
        check_parents(start, tuned)
    for first, second in ((tuned, start), (one, tuned), (start, one), (start, start)):
        check_parents(first, second)


def test_other_networks_tokenizers_and_damaged_weights_are_refused(
    parents: tuple[Path, Path], tokenizer: LabelTokenizer, tmp_path: Path
) -> None:
    def refused(sentence: str, start: Path) -> None:
        with pytest.raises(CheckpointError, match=sentence):
            save_merged(tmp_path / "out", Parent.read(parents[0]), Parent.read(start), 0.5)
        assert not (tmp_path / "out").exists()

    save_checkpoint(tmp_path / "queries", build_model(replace(CONFIG, queries=16)), tokenizer, {})
    refused(r"tuned/config\.json has queries = 12, .*/queries/config\.json has 16", tmp_path / "queries")
    other = train_label_tokenizer(["cat", "wash", "bench"], 300)
    save_checkpoint(tmp_path / "words", build_model(CONFIG), other, {})
    refused(r"tokenizer\.json and .*tokenizer\.json differ", tmp_path / "words")
    save_checkpoint(tmp_path / "start", build_model(CONFIG), tokenizer, {})
    file = tmp_path / "start/model.safetensors"
    tensors = load_file(file)
    name = next(name for name, value in tensors.items() if value.is_floating_point())
    for changed, sentence in (
        ({key: value for key, value in tensors.items() if key != name}, f"has {name}, which .* lacks"),
        ({**tensors, name: tensors[name].half()}, f"{name} is float32 .* and float16"),
        ({**tensors, name: tensors[name] * torch.nan}, f"{name} holds NaN"),
    ):
        save_file({key: value.contiguous() for key, value in changed.items()}, file)
        refused(sentence, tmp_path / "start")
    assert read_json(tmp_path / "start/metadata.json") == {}
