"""Values of options that mean nothing are refused before any work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlip_assets.cli import main
from rlip_assets.cli.application import app


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


@pytest.mark.parametrize(("command", "file"), [("params-yaml", "params.yaml"), ("dvc-yaml", "dvc.yaml")])
def test_files_of_a_profile_are_written_but_not_through_a_link(
    command: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlip_assets.cli.stages.profile_root", lambda name: tmp_path)
    (tmp_path / "params.yaml").write_text("profile: micro\n")
    assert CliRunner().invoke(app, [command]).exit_code == 0
    whole = (tmp_path / file).read_text()
    assert "is current" in CliRunner().invoke(app, [command]).output
    (tmp_path / "elsewhere.yaml").write_text("profile: micro\n")
    (tmp_path / file).unlink()
    (tmp_path / file).symlink_to("elsewhere.yaml")
    assert "symbolic link" in str(CliRunner().invoke(app, [command]).exception)
    assert (tmp_path / "elsewhere.yaml").read_text() == "profile: micro\n"
    assert len(whole) > len("profile: micro\n")
