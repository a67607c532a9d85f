"""Values of options that mean nothing are refused before any work."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from rlip_assets.cli import app, main


@pytest.mark.parametrize("value", ["nan", "-1", "text"])
@pytest.mark.parametrize(
    "words",
    [
        ["predict", "photo.jpg", "--threshold"],
        ["labels", "export", "tables", "--output", "a.json", "--threshold"],
        ["gc", "--dry-run", "--hours"],
        ["predict", "photo.jpg", "--limit"],
        ["draw", "photo.jpg", "a.json", "a.png", "--limit"],
        ["demo", "--slots"],
        ["ui", "--dagster-port"],
        ["ui", "--mlflow-port"],
    ],
)
def test_a_number_out_of_bounds_is_refused(words: list[str], value: str) -> None:
    result = CliRunner().invoke(app, [*words, value])
    assert result.exit_code == 2
    assert f"'{words[-1]}'" in result.output


def test_names_that_are_no_text_are_printed() -> None:
    command: list[str | bytes] = [
        sys.executable,
        "-m",
        "rlip_assets.cli",
        "draw",
        b"no\xff.jpg",
        b"no\xff.json",
        "a.png",
    ]
    ended = subprocess.run(command, capture_output=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"rlip: no\\udcff.json")
    assert b"Traceback" not in ended.stderr


def test_an_interruption_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rlip_assets.cli.stages.stages", interrupted)
    monkeypatch.setattr(sys, "argv", ["rlip", "stages"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err.startswith("rlip: interrupted")
