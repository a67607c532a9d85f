"""Commands and what they read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_lines import COMMANDS, Command, make_sources


@pytest.fixture(scope="package")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files and folders that commands read. Do not change them."""
    root = tmp_path_factory.mktemp("sources")
    make_sources(root)
    return root


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest, sources: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Each command in turn."""
    monkeypatch.setattr("rlip_assets.cli.labels.profile_root", lambda name: sources)
    return COMMANDS[request.param]
