"""A project that was moved or copied finds its own artifacts and writes new ones where it is now."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.entities import Dataset, DatasetInput
from mlflow.tracking import MlflowClient

from rlip_assets.tracking.address import store_uri
from rlip_assets.tracking.models import register_model
from rlip_assets.tracking.store import experiment_id, open_store

GROUP = "pretraining"


@pytest.fixture(autouse=True, scope="module")
def own_store() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


def log(project: Path, text: str) -> str:
    """Log one artifact, an input and a model; returns the run's id."""
    client = open_store(project)
    run = client.create_run(experiment_id(client, GROUP, project))
    client.log_text(run.info.run_id, text, "notes/text.txt")
    source = f'{{"uri": "{(project / "data/images").as_uri()}"}}'
    client.log_inputs(run.info.run_id, [DatasetInput(Dataset("images", "1", "local", source))])
    content = {"name": "model", "item": "pretrain@vg", "description": "", "root": str(project), "profile": "micro"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store_uri(project))
        register_model(
            client,
            run.info.run_id,
            run.info.experiment_id,
            "key",
            content | {"folder": "data", "files": {"weights": "md5"}},
        )
    return str(run.info.run_id)


def text_of(client: MlflowClient, run: str) -> str:
    return Path(client.download_artifacts(run, "notes/text.txt")).read_text()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A project with a run, and the run."""
    project = tmp_path_factory.mktemp("origin") / "project"
    return project, log(project, "before")


@pytest.mark.parametrize("copied", [False, True])
def test_artifacts_follow_the_project(made: tuple[Path, str], tmp_path: Path, copied: bool) -> None:
    (old, first), hidden = made, tmp_path / "hidden"
    new = old / "copy inside" if copied else tmp_path / "new place"
    shutil.copytree(old, tmp_path / "copy")
    if not copied:
        old.rename(hidden)
    (tmp_path / "copy").rename(new)
    client = open_store(new)
    assert text_of(client, first) == "before"
    second = log(new, "after")
    assert text_of(client, second) == "after"
    for run in (first, second):
        assert (new / f"mlruns/artifacts/{GROUP}/{run}/artifacts/notes/text.txt").exists()
        inputs = client.get_run(run).inputs
        assert inputs is not None
        assert (new / "data/images").as_uri() in inputs.dataset_inputs[0].dataset.source
    for version in client.search_model_versions("name = 'model'"):
        model = client.get_logged_model(str(version.source).removeprefix("models:/"))
        folder = Path(model.artifact_location.removeprefix("file://").replace("%20", " "))
        assert folder.is_relative_to(new)
        assert (folder / "MLmodel").exists()
    if not copied:
        hidden.rename(old)
    assert text_of(open_store(old), first) == "before"
    assert not (old / f"mlruns/artifacts/{GROUP}/{second}").exists()


def test_a_chosen_place_stays(made: tuple[Path, str], tmp_path: Path) -> None:
    """Only the database was copied, or its experiment lies elsewhere on purpose: the artifacts stay where they are."""
    old, run = made
    (tmp_path / "new/mlruns").mkdir(parents=True)
    shutil.copy(old / "mlruns/mlflow.db", tmp_path / "new/mlruns/mlflow.db")
    chosen = (tmp_path / "elsewhere").as_uri()
    other = open_store(tmp_path / "new").create_experiment("other", artifact_location=chosen)
    client = open_store(tmp_path / "new")
    assert text_of(client, run) == "before"
    assert client.get_experiment(other).artifact_location == chosen
