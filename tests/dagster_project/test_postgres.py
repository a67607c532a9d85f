"""A lineage whose Dagster storage and MLflow store are databases of one PostgreSQL server."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster import DagsterInstance, DagsterRunStatus

from dagster_dvc import report_external, unreported
from dagster_project.launcher import launch_changed
from dagster_project.location import Location
from dagster_project.retention import delete_old_runs
from rlip_assets.dvc.status import changed_items
from rlip_assets.storage.errors import InputError
from rlip_assets.tracking.journal import waiting_journals
from rlip_assets.tracking.retention import sweep
from rlip_assets.tracking.store import open_store
from tests.support.dvc_project import DvcProject
from tests.support.postgres_server import Postgres, postgres_server
from tests.support.toy_lineage import PROJECT, TARGET
from tests.support.tracked_runs import report

pytestmark = pytest.mark.postgres


@dg.asset
def upkeep() -> None:
    print("done")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def instance(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    """The project's Dagster instance, its storage on the server."""
    settings = yaml.safe_load((PROJECT / "dagster_home/dagster.yaml").read_text())
    settings["storage"] = {"postgres": {"postgres_url": postgres.address("dagster")}}
    home = tmp_path / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with DagsterInstance.get() as instance:
        yield instance


def test_a_lineage_materialises_into_postgres(
    postgres: Postgres, instance: DagsterInstance, location: Location, project: Path
) -> None:
    """Earlier work of DVC is reported, a change is run, and a second time nothing is."""
    report_external(instance, location.project, location.translator)
    params = project / "params.yaml"
    content = yaml.safe_load(params.read_text())
    content["training"]["precision"] = "bf16"
    params.write_text(yaml.safe_dump(content))
    assert sorted(launch_changed(location, TARGET, print).addresses) == ["model@more", "model@plain", "report"]
    assert changed_items(location.registry, location.root) == set()
    assert unreported(instance, location.project, location.translator) == []
    assert {run.status for run in instance.get_runs()} == {DagsterRunStatus.SUCCESS}
    assert launch_changed(location, TARGET, print).addresses == []

    runs, events = (postgres.query("dagster", f"select count(*) from {table}") for table in ("runs", "event_logs"))
    assert events > runs == instance.get_runs_count() > 0
    assert not list(Path(os.environ["DAGSTER_HOME"]).rglob("*.db"))

    superseded, _ = (dg.materialize([upkeep], instance=instance).run_id for _ in range(2))
    kept = {run.run_id for run in instance.get_runs()} - {superseded}
    assert postgres.query("dagster", f"select count(*) from event_logs where run_id = '{superseded}'") > 0
    assert list(delete_old_runs(instance, days=1e-9)) == [superseded]
    assert postgres.query("dagster", f"select count(*) from event_logs where run_id = '{superseded}'") == 0
    assert {run.run_id for run in instance.get_runs()} == kept
    assert unreported(instance, location.project, location.translator) == []


def test_stages_are_tracked_in_postgres(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of `dvc repro` log into the server; the run that provenance names is there, finished, with its metrics."""
    miniature = DvcProject.make(tmp_path / "miniature")
    monkeypatch.setattr(
        DvcProject, "variables", miniature.variables | {"MLFLOW_TRACKING_URI": postgres.address("mlflow")}
    )
    miniature.run("dvc", "repro", "--quiet", "r_tagger")
    deadline = time.monotonic() + 120
    while waiting_journals(miniature.root):  # the witness sends what the stage has noted
        assert time.monotonic() < deadline, "the witness is not done"
        time.sleep(0.5)
    key = json.loads((miniature.root / "provenance/r_tagger.json").read_text())["tracking_key"]
    of_run = f"join tags on tags.run_uuid = runs.run_uuid where tags.value = '{key}'"
    assert postgres.query("mlflow", f"select runs.status from runs {of_run}") == "FINISHED"
    metrics = f"select count(*) from metrics join runs on metrics.run_uuid = runs.run_uuid {of_run}"
    assert postgres.query("mlflow", metrics) > 6
    assert not (miniature.root / "mlruns/mlflow.db").exists()

    monkeypatch.setenv("MLFLOW_TRACKING_URI", postgres.address("absent"))
    with pytest.raises(InputError, match=r'does not answer .*database "absent" does not exist'):
        open_store()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", postgres.address("mlflow"))
    monkeypatch.chdir(tmp_path)  # where a client of a database leaves artifacts
    old, new = (report(miniature.root, "train@a", days) for days in (200, 100))
    assert sweep(miniature.root, 90, miniature.root) == "deleted 1 runs, older than 90 days"
    left = "select string_agg(value, ' ') from tags join runs on tags.run_uuid = runs.run_uuid where key = 'rlip.key'"
    assert set(postgres.query("mlflow", left).split()) == {key, new}
    assert postgres.query("mlflow", f"select count(*) from tags where value = '{old}'") == 0
    assert postgres.query("mlflow", "select count(*) from logged_models where name = 'miniature-train-a'") == 1
    assert len(list(tmp_path.glob("mlruns/*/*/artifacts/notes/note.txt"))) == 1
