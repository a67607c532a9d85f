"""A toy lineage that DVC has run, and a Dagster instance of its own, for every test that needs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import DagsterInstance

from dagster_project.location import Location
from tests.support.toy_lineage import PROJECT, ROOT_VARIABLE, environment, make_project, toy_location


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy project after one `dvc repro` from the shell. Do not change it; take `project`."""
    root = make_project(tmp_path_factory.mktemp("toy") / "project")
    subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--quiet"], cwd=root, env={**os.environ, **environment(root)}, check=True
    )
    return root


@pytest.fixture
def project(reproduced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the reproduced toy project, found by stages and workers through the environment."""
    root = tmp_path / "project"
    shutil.copytree(reproduced, root, symlinks=True)
    for name, value in environment(root).items():
        monkeypatch.setenv(name, value)
    return root


@pytest.fixture
def location(project: Path) -> Location:
    """The toy lineage of `project`."""
    assert os.environ[ROOT_VARIABLE] == str(project)
    return toy_location()


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    """A persistent Dagster instance with the settings of the project's."""
    home = tmp_path / "dagster_home"
    home.mkdir()
    shutil.copy(PROJECT / "dagster_home" / "dagster.yaml", home)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with DagsterInstance.get() as instance:
        yield instance
