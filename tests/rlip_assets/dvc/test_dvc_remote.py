"""Outputs of a stage lie once on the disk, and comes back from a DVC remote with the same bytes: a folder, and an S3-compatible store."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlip_assets.lineage.profiles import PROJECT_ROOT
from rlip_assets.storage.object_store import ObjectStore
from tests.support.object_server import KEY, SECRET, s3_server

PIPELINE = """\
stages:
  table:
    cmd: mkdir -p data/table && echo rows > data/table/part-0 && echo more > data/table/part-1
    outs: [data/table]
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    dvc(root, "init", "--no-scm", "--quiet")
    (root / "dvc.yaml").write_text(PIPELINE)
    dvc(root, "repro", "--quiet")
    return root


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in (
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    folder = tmp_path / "s3"
    folder.mkdir()
    with s3_server(folder) as address:
        yield address


def dvc(root: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words], cwd=root, capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def comes_back(root: Path) -> None:
    dvc(root, "push", "--quiet")
    shutil.rmtree(root / "data")
    shutil.rmtree(root / ".dvc/cache")
    dvc(root, "pull", "--quiet")
    assert {path.name: path.read_text() for path in (root / "data/table").iterdir()} == {
        "part-0": "rows\n",
        "part-1": "more\n",
    }
    assert "up to date" in dvc(root, "status")


@pytest.mark.parametrize("profile", ["", "profiles/study"])
def test_outputs_are_links_to_the_cache(repository: Path, profile: str) -> None:
    """With the settings of the project, whatever the file system can do, in place of DVC's own, which make copies."""
    settings = (PROJECT_ROOT / profile / ".dvc/config").read_text()
    (repository / ".dvc/config").write_text(settings.replace("[core]", "[core]\n    no_scm = true"))
    dvc(repository, "repro", "--quiet", "--force")
    cached = {file.stat().st_ino for file in (repository / ".dvc/cache/files/md5").glob("??/*")}
    assert {file.stat().st_ino for file in (repository / "data/table").iterdir()} <= cached


def test_outputs_come_back_from_a_folder(repository: Path, tmp_path: Path) -> None:
    dvc(repository, "remote", "add", "--default", "store", str(tmp_path / "store"))
    comes_back(repository)


@pytest.mark.s3
def test_outputs_come_back_from_an_object_store(repository: Path, address: str) -> None:
    """With the credentials of the environment: none are written to a file of the repository."""
    ObjectStore.connect(address)._client.create_bucket(Bucket="versions")
    dvc(repository, "remote", "add", "--default", "store", "s3://versions/rlip")
    dvc(repository, "remote", "modify", "store", "endpointurl", address)
    comes_back(repository)
    assert SECRET not in (repository / ".dvc/config").read_text()
