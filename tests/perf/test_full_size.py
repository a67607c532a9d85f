"""Full-size figures without a GPU, at toy size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perf import full_size


@pytest.mark.parametrize("work", full_size.WORKS)
def test_each_work_runs_at_toy_size(work: str) -> None:
    figures = full_size.measure(work, small=True)
    assert figures["peak_gb"] > 0
    assert set(figures) == {"seconds", "cpu_seconds", "peak_gb"}


def test_a_work_is_measured_in_a_process_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full_size.main(["captions"], 1, True, tmp_path / "out.json")
    assert "captions" in capsys.readouterr().out
    assert set(json.loads((tmp_path / "out.json").read_text())) == {"captions"}
