"""The trainings of the shipped weights, a few steps each: they run, learn, and write what the lineage opens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rlip_assets.micro_world.starting_weights.fit import Schedule, fit, shuffled
from rlip_assets.micro_world.starting_weights.record import TrainingRecord
from rlip_assets.micro_world.starting_weights.train_captioner import CaptionerSchedule, make_captioner
from rlip_assets.micro_world.starting_weights.train_detector import DetectorTraining, make_detector
from rlip_assets.micro_world.starting_weights.train_text_encoder import TextEncoderTraining, make_text_encoder


@given(st.integers(1, 50), st.integers(1, 500), st.floats(0, 1))
def test_the_rate_rises_then_falls(warmup: int, more: int, lowest: float) -> None:
    schedule = Schedule(1.0, warmup + more, warmup, 0.0, lowest)
    shares = [schedule.share(step) for step in range(1, schedule.steps + 1)]
    assert shares[warmup - 1] == pytest.approx(1.0)
    assert shares[-1] == pytest.approx(lowest, abs=1e-9)
    rising, falling = np.diff(shares[:warmup]), np.diff(shares[warmup - 1 :])
    assert (rising > 0).all()
    assert (falling <= 1e-12).all()


def test_a_line_is_fitted_at_the_rates_of_the_schedule() -> None:
    torch.manual_seed(0)
    line, rates = nn.Linear(1, 1), []
    x = torch.linspace(-1, 1, 16)[:, None]
    schedule, record = Schedule(0.1, 200, 10, 0.0), TrainingRecord("line", {}, 200)

    def losses(batch: object, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        rates.append(schedule.share(step))
        loss = (line(x) - (3 * x - 1)).square().mean()
        return loss, {"loss": loss}

    fit(line.parameters(), schedule, range(200), losses, record)
    assert line.weight.item() == pytest.approx(3, abs=0.05)
    assert line.bias.item() == pytest.approx(-1, abs=0.05)
    assert [row["step"] for row in record.losses] == [50, 100, 150, 200]
    assert record.losses[-1]["loss"] < record.losses[0]["loss"]
    assert len(rates) == 200


@given(st.integers(1, 20), st.integers(1, 30), st.integers(0, 20))
def test_every_row_comes_once_before_any_row_again(rows: int, batch: int, steps: int) -> None:
    drawn = list(shuffled(rows, batch, steps, np.random.default_rng(0)))
    assert [len(part) for part in drawn] == [batch] * steps
    together = np.concatenate([np.zeros(0, int), *drawn])
    for start in range(0, len(together) - rows + 1, rows):
        assert sorted(together[start : start + rows]) == list(range(rows))


def test_each_training_writes_weights_with_their_record(tmp_path: Path) -> None:
    make_text_encoder(tmp_path / "text_encoder", TextEncoderTraining(steps=2, scenes=60, held_out_scenes=10))
    make_detector(
        tmp_path / "detector",
        DetectorTraining(backbone_steps=2, steps=2, backbone_batch=2, batch=2, images=4, held_out_images=2),
    )
    schedule = CaptionerSchedule(
        dense_images=4, dense_steps=2, dense_batch=2, caption_images=8, caption_steps=2, batch=2, held_out_pictures=2
    )
    make_captioner(tmp_path / "captioner", schedule=schedule)
    for name, steps, terms in (
        ("text_encoder", 2, {"phrases", "captions", "masked"}),
        ("detector", 4, {"backbone", "total", "dense"}),
        ("captioner", 4, {"patches", "captions"}),
    ):
        record = json.loads((tmp_path / name / "record.json").read_text())
        assert record["steps"] == record["losses"][-1]["step"] == steps
        assert terms <= set(record["losses"][-1])
        assert record["held_out"]
        assert (tmp_path / name / "model.safetensors").is_file()
