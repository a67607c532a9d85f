"""The benchmark of readers runs at a small size, and streaming stays far below loading."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.deep
def test_a_small_json(tmp_path: Path) -> None:
    command = [sys.executable, "perf/readers.py", "--gigabytes", "0.04", "--whole-gigabytes", "0.02"]
    more = ["--folder", str(tmp_path / "made"), "--json", str(tmp_path / "figures.json")]
    result = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["stream"]["megabytes"] > 35
    assert figures["stream"]["peak_to_file"] < 0.7
    assert figures["whole"]["peak_to_file"] > 2
    assert not (tmp_path / "made").exists()
