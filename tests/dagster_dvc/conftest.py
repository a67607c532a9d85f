"""DVC projects of several shapes, made once, and a Dagster instance of its own for every test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.support import dvc_shapes


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fresh projects, one folder each. Do not change them; take `project`."""
    base = tmp_path_factory.mktemp("shapes")
    for make in (dvc_shapes.get_started, dvc_shapes.templates, dvc_shapes.monorepo, dvc_shapes.oddities):
        make(base / make.__name__)
    return base


@pytest.fixture
def project(shapes: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copy one of the projects."""

    def copy(name: str) -> Path:
        shutil.copytree(shapes / name, tmp_path / name, symlinks=True)
        return tmp_path / name

    return copy


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A persistent Dagster instance."""
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        yield instance
