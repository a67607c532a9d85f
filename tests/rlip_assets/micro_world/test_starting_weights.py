"""The trainings of the shipped weights, a few steps each: they run, learn, and write what the lineage opens."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from rlip_assets.micro_world.captions import corpus_picture
from rlip_assets.micro_world.starting_weights import captioned_scenes as scenes
from rlip_assets.micro_world.starting_weights import train_text_encoder
from rlip_assets.micro_world.starting_weights.__main__ import Network, main
from rlip_assets.micro_world.starting_weights.fit import Machine, Schedule, fit
from rlip_assets.micro_world.starting_weights.record import TrainingRecord
from rlip_assets.micro_world.starting_weights.stream import Stream
from rlip_assets.micro_world.starting_weights.train_captioner import (
    CaptionBatch,
    CaptionerSize,
    CaptionerTraining,
    SentenceCoder,
    draw_batch,
    make_captioner,
    patch_loss,
    shown_patches,
    shown_pixels,
    train_tokenizer,
)
from rlip_assets.micro_world.starting_weights.train_detector import DetectorTraining, detection_image, make_detector
from rlip_assets.micro_world.starting_weights.train_text_encoder import TextEncoderTraining, make_text_encoder
from rlip_assets.training.processes import Processes


@given(st.integers(1, 50), st.floats(0, 1), st.lists(st.floats(0, 1), min_size=2))
def test_the_rate_rises_in_every_part_and_falls_over_all(warmup: int, lowest: float, places: list[float]) -> None:
    schedule = Schedule(1.0, 1000, warmup, 0.0, lowest)
    assert schedule.share(0, warmup) == pytest.approx(1.0)
    assert schedule.share(1, warmup) == pytest.approx(lowest, abs=1e-9)
    assert (np.diff([schedule.share(0.5, step) for step in range(1, warmup + 1)]) > 0).all()
    assert (np.diff([schedule.share(place, warmup) for place in sorted(places)]) <= 1e-12).all()


def test_the_part_follows_from_the_share_done() -> None:
    schedule = Schedule(1.0, 10, 1, 0.0, parts=(0.3, 0.6))
    assert [schedule.part(progress) for progress in (0, 0.29, 0.3, 0.6, 1)] == [0, 0, 1, 2, 2]


LINE = Schedule(0.3, 120, 5, 0.0, parts=(0.5,))
X = torch.linspace(-1, 1, 16)[:, None]


class _Killed(Exception):
    pass


def _fit_line(machine: Machine, killed_at: int | None = None, settings: str = "") -> tuple[nn.Linear, TrainingRecord]:
    """Fit 3 x - 1 from noisy samples; a training that is killed raises `_Killed`."""
    torch.manual_seed(0)
    line, record = nn.Linear(1, 1), TrainingRecord("line", {"settings": settings}, log_every=30)

    def batch(generator: np.random.Generator) -> Tensor:
        if record.finished == killed_at:
            raise _Killed
        return torch.from_numpy(generator.normal(0, 0.05, X.shape)).float()

    def losses(noise: Tensor, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (line(X) - (3 * X - 1 + noise)).square().mean()
        return loss, {"first" if progress < 0.5 else "second": loss}

    fit([line], LINE, batch, losses, record, machine)
    return line, record


def test_a_line_is_fitted() -> None:
    line, record = _fit_line(Machine())
    assert line.weight.item() == pytest.approx(3, abs=0.05)
    assert line.bias.item() == pytest.approx(-1, abs=0.05)
    assert [row["step"] for row in record.losses] == [30, 60, 90, 120]
    assert record.losses[-1]["second"] < record.losses[0]["first"]


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    machine = Machine(state=tmp_path / "state.pt", save_every=0)
    with pytest.raises(_Killed):
        _fit_line(machine, killed_at=70)
    line, record = _fit_line(machine)
    whole, at_once = _fit_line(Machine())
    assert torch.equal(line.weight, whole.weight)
    assert torch.equal(line.bias, whole.bias)
    assert record.finished == at_once.finished == 120
    assert record.losses == at_once.losses


def test_a_state_of_other_settings_is_not_taken_up(tmp_path: Path) -> None:
    machine = Machine(state=tmp_path / "state.pt", save_every=0)
    with pytest.raises(_Killed):
        _fit_line(machine, killed_at=70, settings="others")
    line, _ = _fit_line(machine)
    assert torch.equal(line.weight, _fit_line(Machine())[0].weight)


class _Twins(Processes):
    """Two processes that draw the same and do the same, but for the clock: only the first one's counts."""

    def sum_values(self, values: Tensor) -> Tensor:
        self.clocks.append(values.item())
        return values if self.is_first else torch.tensor(len(self.clocks) / 121)

    @cached_property
    def clocks(self) -> list[float]:
        return []

    def sum_gradients(self, model: nn.Module) -> None:
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad *= 2


@pytest.mark.parametrize("index", [0, 1])
def test_processes_take_the_mean_step_and_the_first_one_writes(
    index: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state.pt"
    twins = _Twins(index, 2)
    machine = Machine(seconds=1e6, state=state, save_every=0, processes=twins)
    line, record = _fit_line(machine)
    assert bool(capsys.readouterr().out) == (index == 0)
    assert any(twins.clocks) == (index == 0)
    assert line.weight.item() == pytest.approx(3, abs=0.05)
    assert record.finished == 120
    if index == 0:
        assert torch.equal(line.weight, _fit_line(Machine())[0].weight)
    else:
        assert not torch.equal(line.weight, _fit_line(Machine())[0].weight)  # its batches are others
    assert state.is_file() == (index == 0)


def test_only_networks_that_several_processes_train_are_started_in_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the text encoder alone, the first process would wait for the others to join, and they end at once."""
    started: list[str] = []
    monkeypatch.setattr(os, "execv", lambda program, command: sys.exit(f"several: {command[-1]}"))
    monkeypatch.setattr(Machine, "here", lambda state, seconds: Machine())
    monkeypatch.setattr(train_text_encoder, "make_text_encoder", lambda folder, machine: started.append(folder.name))
    monkeypatch.setattr(sys, "argv", ["starting_weights", "NAMES"])
    for names in ([Network.TEXT_ENCODER, Network.CAPTIONER], None):
        with pytest.raises(SystemExit, match="several: NAMES"):
            main(names, tmp_path, processes=2)
    main([Network.TEXT_ENCODER], tmp_path, processes=2)
    assert started == ["text_encoder"]


def test_the_schedule_is_compressed_to_the_time_given(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Iterator[int] = iter(range(100_000))
    monkeypatch.setattr("rlip_assets.micro_world.starting_weights.record.time.perf_counter", lambda: next(clock))
    _, record = _fit_line(Machine(seconds=100))
    assert 10 < record.finished < 100
    assert "second" in record.losses[-1]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_has_its_items_in_order(workers: int) -> None:
    with Stream(str, 40, workers) as stream:
        stream.wait(40)
        assert [stream[number] for number in range(len(stream))] == [str(number) for number in range(40)]


def test_a_stream_raises_what_a_worker_raised() -> None:
    with Stream(partial(divmod, 1), 100, 1) as stream, pytest.raises(ZeroDivisionError):
        stream.wait(100)


@pytest.fixture(scope="module")
def coder() -> SentenceCoder:
    return SentenceCoder(train_tokenizer(scenes.scene_sentences(0, 100), 400))


def test_sentences_are_coded_as_the_tokenizer_does(coder: SentenceCoder) -> None:
    tokenizer = coder.tokenizer
    for sentence in list(scenes.scene_sentences(1, 20)):
        row = tokenizer(f"a picture of {sentence}", add_special_tokens=False)["input_ids"]
        vocabulary = tokenizer.get_vocab()
        assert coder(sentence) == [vocabulary["[DEC]"], *row, vocabulary["[SEP]"]]


def _batch(coder: SentenceCoder, side: int, shift: int, seed: int) -> tuple[CaptionBatch, list[scenes.CaptionedScene]]:
    drawn = [scenes.captioned_scene(number, seed, side) for number in range(3)]
    return draw_batch(drawn, coder, 2, shift, np.random.default_rng(seed)), drawn


def test_a_batch_holds_different_sentences_of_each_image(coder: SentenceCoder) -> None:
    batch, drawn = _batch(coder, 48, 0, 0)
    for row, place in zip(batch.tokens.tolist(), batch.owner.tolist(), strict=True):
        assert [token for token in row if token != coder.pad] in [coder(text) for text in drawn[place].sentences]
    assert len({tuple(row) for row in batch.tokens.tolist()}) == len(batch.tokens)
    assert batch.owner.bincount().tolist() == [min(2, len(scene.sentences)) for scene in drawn]


@given(st.integers(0, 20))
def test_patches_are_shown_where_the_pixels_are(seed: int) -> None:
    """A picture white in one region: after mirroring and moving, the patches said to show it are the white ones."""
    generator = np.random.default_rng(seed)
    left, top = generator.integers(1, 4, 2)
    right, bottom = left + generator.integers(1, 4), top + generator.integers(1, 4)
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[8 * top : 8 * bottom, 8 * left : 8 * right] = 255
    box = np.array([[left, top, right, bottom]], np.float32) / np.float32(8)
    scene = scenes.CaptionedScene(pixels, np.array([5]), box, ["a dog"])
    batch = draw_batch([scene], _NoCoder(), 1, 1, generator)
    batch.shift.mul_(8)  # whole patches
    white = shown_pixels(batch)[0].mean(0).unfold(0, 8, 8).unfold(1, 8, 8).mean((-1, -2)) > 0
    shown = shown_patches(batch, 8)[0]
    assert shown[5].view(8, 8).bool().tolist() == white.tolist()
    assert shown.sum() == shown[5].sum()


@given(st.integers(0, 100), st.integers(0, 4))
def test_every_region_has_a_patch_and_the_best_covered_one_first(seed: int, shift: int) -> None:
    generator = np.random.default_rng(seed)
    corner = generator.uniform(0.15, 0.8, 2)
    box = np.concatenate([corner, corner + generator.uniform(0.005, 0.05, 2)]).astype(np.float32)[None]
    scene = scenes.CaptionedScene(np.zeros((64, 64, 3), np.uint8), np.array([5]), box, ["a dog"])
    batch = draw_batch([scene], _NoCoder(), 1, shift, generator)
    shown = shown_patches(batch, 8)[0, 5].view(8, 8)
    left, top, right, bottom = box[0]
    if batch.mirrored.item():
        left, right = 1 - right, 1 - left
    down, across = (batch.shift[0] / 64).tolist()
    row, column = int(((top + bottom) / 2 + down) * 8), int(((left + right) / 2 + across) * 8)
    assert shown[row, column] == 1
    assert 1 <= shown.sum() <= 4


def test_statements_weigh_alike_however_large_their_regions() -> None:
    holds = torch.zeros(1, scenes.STATEMENTS, 64)
    holds[0, 3, :2], holds[0, 7, 20:52] = 1, 1
    logits = torch.zeros(1, 64, scenes.STATEMENTS, requires_grad=True)
    patch_loss(logits, holds).backward()
    assert logits.grad is not None
    pull = (logits.grad.transpose(1, 2) * holds).sum(-1)[0]
    assert pull[3].item() == pytest.approx(pull[7].item(), rel=1e-5)
    assert pull[3] < 0
    assert patch_loss(torch.zeros(1, 64, scenes.STATEMENTS), torch.zeros_like(holds)).isfinite()


class _NoCoder(SentenceCoder):
    def __init__(self) -> None:
        self.pad = 0

    def __call__(self, sentence: str) -> list[int]:
        return [1]


def test_statements_of_regions_name_every_event() -> None:
    for number in range(30):
        picture, _ = corpus_picture("captions", 0, number)
        statements, boxes = scenes.region_statements(picture)
        found = {(number, *box) for number, box in zip(statements.tolist(), boxes.tolist(), strict=True)}
        size = np.array([picture.width, picture.height] * 2)
        for relation in picture.relations:
            subject, target = picture.things[relation.subject], picture.things[relation.object]
            for statement, thing in (
                (scenes.SHOWS + scenes.KINDS[subject.kind], subject),
                (scenes.DOES + scenes.EVENTS[relation.text], subject),
                (scenes.UNDERGOES + scenes.EVENTS[relation.text], target),
            ):
                assert (statement, *(thing.box / size).astype(np.float32).tolist()) in found
        assert statements.max() < scenes.STATEMENTS
        assert boxes.min() >= 0
        assert boxes.max() <= 1


@pytest.mark.parametrize(
    "make",
    [partial(scenes.captioned_scene, seed=3, side=64), partial(detection_image, seed=3)],
    ids=["captioner", "detector"],
)
def test_an_image_depends_on_its_number_and_seed_alone(make: Callable[[int], object]) -> None:
    first, second = vars(make(5)), vars(make(5))
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])


def test_each_training_writes_weights_with_their_record(tmp_path: Path) -> None:
    machine = Machine()
    make_text_encoder(tmp_path / "text_encoder", machine, TextEncoderTraining(steps=2, scenes=60, held_out_scenes=10))
    detector = DetectorTraining(images=4, steps=4, batch=2, whole_from=0.5, held_out_images=2)
    make_detector(tmp_path / "detector", machine, detector)
    captioner = CaptionerTraining(
        images=4, steps=4, batch=2, captions_from=0.5, tokenizer_scenes=20, held_out_pictures=2
    )
    make_captioner(tmp_path / "captioner", machine, CaptionerSize(vision_layers=1), captioner)
    for name, steps, terms in (
        ("text_encoder", 2, {"phrases", "captions", "masked"}),
        ("detector", 4, {"backbone", "total", "dense"}),
        ("captioner", 4, {"patches", "captions"}),
    ):
        record = json.loads((tmp_path / name / "record.json").read_text())
        assert record["steps"] == record["losses"][-1]["step"] == steps
        assert terms <= set(record["losses"][-1])
        assert record["held_out"]
        assert record["device"] == "cpu"
        assert (tmp_path / name / "model.safetensors").is_file()


def test_finished_weights_are_trained_on(tmp_path: Path) -> None:
    detector = DetectorTraining(images=2, steps=1, batch=2, whole_from=0.0, held_out_images=2)
    captioner = CaptionerTraining(
        images=2, steps=1, batch=2, captions_from=0.0, tokenizer_scenes=20, held_out_pictures=2
    )
    small = CaptionerSize(vision_layers=1, text_layers=1)
    for further in (False, True):
        make_detector(tmp_path / "detector", settings=detector, further=further)
        make_captioner(tmp_path / "captioner", size=None if further else small, training=captioner, further=further)
        for name in ("detector", "captioner"):
            record = json.loads((tmp_path / name / "record.json").read_text())
            assert (record["earlier"] is not None) == further
            assert further == (record["steps"] == (record["earlier"] or {}).get("steps"))
    assert record["settings"]["vision_layers"] == 1
