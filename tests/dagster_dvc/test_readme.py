"""The README's way from an empty folder to a green asset is what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "dagster_dvc"


@pytest.mark.deep
def test_its_commands_make_assets_green(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)
    install, *commands = blocks
    assert install.startswith("pip install ./dagster_dvc")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "DVC_NO_ANALYTICS": "1",
    }
    environment.pop("DAGSTER_HOME", None)
    done = subprocess.run(
        ["bash", "-e", "-c", "\n".join(commands)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith("Data and pipelines are up to date.")
    assert (tmp_path / "report.json").read_text() == '{"words": 6}\n'
