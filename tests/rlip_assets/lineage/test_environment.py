"""The GPUs of a machine, played by a program in the place of the driver's."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlip_assets.lineage.environment import gpus


def test_gpus_are_those_that_the_driver_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100, 81559 MiB, 550.1'\necho 'NVIDIA H100, 81559 MiB, 550.1'\n")
    program.chmod(0o755)
    assert gpus() == ["NVIDIA H100, 81559 MiB, 550.1"] * 2
    program.write_text("#!/bin/sh\necho 'no driver'\nexit 9\n")
    assert gpus() == []
