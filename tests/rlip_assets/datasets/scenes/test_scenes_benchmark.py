"""The benchmark of scene tables runs at a small scale and meets its bar of memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.deep
def test_a_small_table(tmp_path: Path) -> None:
    command = [sys.executable, "perf/scene_tables.py", "--scale", "0.002", "--folder", tmp_path / "tables"]
    result = subprocess.run(
        [*map(str, command), "--json", str(tmp_path / "figures.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["images"] == figures["rows"] == 3584
    assert figures["met"]["epoch_peak_memory_mb"]
    assert not (tmp_path / "tables").exists()
