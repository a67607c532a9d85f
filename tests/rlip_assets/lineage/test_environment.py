"""What is said of the machine; a GPU is played by a program and by torch's own functions put in its place."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch

from rlip_assets.lineage.environment import gpus, system_metrics

GIB = 2**30


def test_gpus_are_those_that_the_driver_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100, 81559 MiB, 550.1'\necho 'NVIDIA H100, 81559 MiB, 550.1'\n")
    program.chmod(0o755)
    assert gpus() == ["NVIDIA H100, 81559 MiB, 550.1"] * 2
    program.write_text("#!/bin/sh\necho 'no driver'\nexit 9\n")
    assert gpus() == []


def test_a_gpu_without_its_library_still_tells_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(device: torch.device) -> int:
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed")

    process = psutil.Process()
    assert set(system_metrics(process, torch.device("cpu"))) == {"cpu_percent", "memory_gb"}
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * GIB)
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: 87)
    told = system_metrics(process, torch.device("cuda", 0))
    assert (told["gpu_memory_gb"], told["gpu_percent"]) == (3.0, 87.0)
    monkeypatch.setattr(torch.cuda, "utilization", missing)
    assert "gpu_percent" not in system_metrics(process, torch.device("cuda", 0))
