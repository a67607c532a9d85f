"""The processes of trainings against the GPUs that are here."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlip_assets.doctor.checks import gpu
from rlip_assets.doctor.finding import Level


@pytest.mark.parametrize(
    ("device", "step", "level"),
    [("auto", 1e6, Level.WARNING), ("auto", 1e10, Level.FAILED), ("cuda", 1e6, Level.FAILED), ("cpu", 1e6, None)],
)
def test_processes_that_outnumber_the_gpus_are_told(
    profile: Any, device: str, step: float, level: Level | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile.write({"training": {"device": device, "processes": 2}})
    monkeypatch.setattr(gpu, "gpus", lambda: ["an H100"])
    monkeypatch.setattr(gpu, "gpu_memory", lambda: [2**36])
    monkeypatch.setattr(gpu, "_steps", lambda case: [("pretrain", step)])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    told = [finding.level for finding in gpu.check(profile.case()) if "2 processes" in finding.message]
    assert told == ([] if level is None else [level])
