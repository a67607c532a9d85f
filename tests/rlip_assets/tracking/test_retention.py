"""Old runs go with all they made, for good; what anyone needs stays, and a sweep that was killed is finished by the next."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient

from rlip_assets.tracking.address import STORE_VARIABLE
from rlip_assets.tracking.journal import waiting_journals
from rlip_assets.tracking.retention import old_runs, sweep
from rlip_assets.tracking.store import CHAMPION, PROJECT_TAG, all_runs, open_store, run_of_key
from rlip_assets.tracking.witness import Witness
from tests.support.tracked_runs import report

KEEP = 90.0


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a new store, which takes seconds to make."""
    folder = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(STORE_VARIABLE, f"sqlite:///{folder}/mlflow.db")
        open_store()
    return (folder / "mlflow.db").read_bytes()


@pytest.fixture
def root(tmp_path: Path, empty_store: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile that tracks into a store which it may share with others."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store/mlflow.db").write_bytes(empty_store)
    (tmp_path / "store/mlflow.lock").touch()
    monkeypatch.setenv(STORE_VARIABLE, f"sqlite:///{tmp_path}/store/mlflow.db")
    root = tmp_path / "toy"
    root.mkdir()
    (root / "params.yaml").write_text(f"profile: micro\nexecution: {{keep_days: {KEEP}}}\n")
    return root


def left(client: MlflowClient) -> set[str | None]:
    return {run.data.tags.get("rlip.key") for run in all_runs(client)}


def test_what_anyone_needs_stays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlip_assets.tracking.store._AT_ONCE", 2)  # answers in several pages
    keep, go, client = set[str | None](), set[str | None](), open_store()

    def run_of(key: str) -> str:
        run = run_of_key(client, key)
        assert run is not None
        return run

    go |= {report(root, "count@a", 120), report(root, "count@a", 99, "FAILED"), report(root, "train@a", 150)}
    champion, tried, in_tree, copied = (report(root, "train@a", days) for days in (130, 125, 120, 119))
    inherited, elsewhere = report(root, "train@a", 118), report(root, "train@a", 95)
    client.set_registered_model_alias("toy-train-a", CHAMPION, "2")
    client.create_registered_model("by hand")
    client.create_model_version("by hand", str(client.get_model_version("toy-train-a", "3").source), run_of(tried))
    client.copy_model_version("models:/toy-train-a/5", "production")
    for tree, key in ((root, in_tree), (root / "profiles/study", inherited)):
        (tree / "provenance").mkdir(parents=True)
        (tree / "provenance/train@a.json").write_text(json.dumps({"mlflow_run": None, "tracking_key": key}))
    (root / "profiles/study/params.yaml").touch()
    (root / "provenance/damaged.json").write_text("{")
    client.set_tag(run_of(elsewhere), PROJECT_TAG, "of another project")
    keep |= {champion, tried, in_tree, copied, inherited, elsewhere}
    keep |= {report(root, "count@a", 100), report(root, "count@b", 500), report(root, "train@a", 110)}  # the newest
    keep |= {report(root, "count@b", 89, "FAILED"), report(root, "count@c", 200, None)}  # young, running
    (other := root.with_name("other")).mkdir()
    keep |= {report(other, "count@a", 300), report(other, "count@a", 290), None}
    by_hand = client.create_run("0", start_time=1, tags={"profile": root.name})
    client.set_terminated(by_hand.info.run_id, end_time=2)

    runs = {key: client.get_run(run_of(str(key))) for key in go}
    assert len({str(each) for each in old_runs(client, root, KEEP, root)}) == len(go)
    assert sweep(root, KEEP, root) == "deleted 3 runs, older than 90 days"
    assert left(client) == keep
    assert sweep(root, KEEP, root) == ""
    for run in runs.values():
        with pytest.raises(MlflowException, match="not found"):
            client.get_run(run.info.run_id)
        assert not Path(run.info.artifact_uri.removeprefix("file://")).parent.exists()
    versions = {int(each.version) for each in client.search_model_versions("name = 'toy-train-a'")}
    assert versions == {2, 3, 4, 5, 6, 7, 8}
    logged = client.search_logged_models([runs[next(iter(go))].info.experiment_id])
    assert len(logged) == 7
    with sqlite3.connect(root.with_name("store") / "mlflow.db") as database:
        kept = database.execute("select count(distinct run_uuid), count(*) from metrics").fetchone()
        trash = database.execute("select count(*) from runs where lifecycle_stage = 'deleted'").fetchone()
    assert kept == (len(keep) - 1, len(keep) - 1)
    assert trash == (0,)


@pytest.mark.parametrize(
    "killed_in", ["delete_model_version", "delete_logged_model", "_tracking_client.store._hard_delete_run"]
)
def test_a_killed_sweep_is_finished_by_the_next(root: Path, monkeypatch: pytest.MonkeyPatch, killed_in: str) -> None:
    old, new = report(root, "train@a", 200), report(root, "train@a", 100)
    client = open_store()
    part, _, method = killed_in.rpartition(".")
    target = client
    for name in filter(None, part.split(".")):
        target = getattr(target, name)

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(target, method, kill)
        patched.setattr("rlip_assets.tracking.retention.open_store", lambda _: client)
        with pytest.raises(KeyboardInterrupt):
            sweep(root, KEEP, root)
    assert left(client) == {old, new}
    assert sweep(root, KEEP, root) == "deleted 1 runs, older than 90 days"
    assert left(client) == {new}
    assert [int(each.version) for each in client.search_model_versions("name = 'toy-train-a'")] == [2]
    assert len(client.search_logged_models([next(all_runs(client)).info.experiment_id])) == 1


def test_a_run_that_cannot_be_deleted_holds_up_no_other(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [report(root, "count@a", days) for days in (300, 200, 100)]
    client = open_store()
    broken = run_of_key(client, keys[0])

    def refuse(uri: str, **_: object) -> object:
        if str(broken) in uri:
            raise PermissionError("artifacts are read-only")
        return get_artifact_repository(uri)

    monkeypatch.setattr("rlip_assets.tracking.retention.get_artifact_repository", refuse)
    said = f"deleted 1 runs, older than 90 days; run {broken} cannot be deleted (artifacts are read-only)"
    assert sweep(root, KEEP, root) == said
    assert left(client) == {keys[0], keys[2]}
    assert sweep(root, KEEP, root, seconds=-1) == ""


def test_reports_that_no_store_takes_are_bounded_too(root: Path) -> None:
    """Those of results in the tree wait on, and so do young ones and those of a stage that runs."""
    ends = (("old", 200, "FINISHED"), ("in tree", 200, "FINISHED"), ("young", 80, "FINISHED"), ("running", 200, None))
    keys = {name: report(root, f"count@{name}", days, status, send=False) for name, days, status in ends}
    (root / "provenance").mkdir()
    (root / "provenance/count.json").write_text(json.dumps({"tracking_key": keys["in tree"]}))
    assert sweep(root, KEEP, root) == "deleted 0 runs and 1 reports that no store took, older than 90 days"
    assert {journal.key for journal in waiting_journals(root)} == set(keys.values()) - {keys["old"]}


def test_the_witness_sweeps_when_it_has_sent(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(root, "count@a", 300)
    report(root, "count@a", 1, send=False)
    witness = Witness(root, root)
    witness.sweep()
    assert capsys.readouterr().out == "", "it has asked no store yet"
    witness.look()
    witness.sweep()
    assert capsys.readouterr().out.splitlines()[-1] == "deleted 1 runs, older than 90 days"
    (root / "params.yaml").write_text("execution: {keep_days: -1}\n")
    witness.sweep()
    assert "keep_days" in capsys.readouterr().out
