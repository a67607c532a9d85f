"""A stage run in a real MLflow store: what a person finds there, and how failures and large files look."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

import tests.support.toy_stage as toy_stage
from rlip_assets.lineage.log import open_stage_log
from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.runner import run_stage
from rlip_assets.lineage.stage_run import StageRun
from rlip_assets.storage.errors import InputError
from rlip_assets.tracking.journal import Journal, waiting_journals
from rlip_assets.tracking.models import promote_model
from rlip_assets.tracking.opening import close_abandoned
from rlip_assets.tracking.references import describe_files, link_copies
from rlip_assets.tracking.stage_log import TrackingLog, note_stage
from rlip_assets.tracking.store import (
    CANDIDATE,
    CHAMPION,
    EXPERIMENTS,
    KEY_TAG,
    experiment_id,
    open_store,
    parent_run,
    referred_hashes,
    run_of_key,
)
from rlip_assets.tracking.witness import Witness

MODEL = "tracked-words-a"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "tracked"
    root.mkdir()
    return toy_stage.project(root)


@pytest.fixture
def store(root: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'store' / 'mlflow.db'}")
    return open_store()


@contextmanager
def noted(run: StageRun, _say: Callable[[str], None]) -> Iterator[TrackingLog]:
    """The journal alone; tests send it themselves, which spares them a process that imports MLflow."""
    with note_stage(run) as log:
        if run.spec.torch:
            Witness(run.root).look()
        yield log


def tracked(root: Path, function: str = "count_words", distributed: bool = False) -> str:
    """Run the toy stage and send what it noted; returns its run id."""
    params = load_params(root / "params.yaml")
    opened = partial(open_stage_log, track=noted)
    try:
        run_stage(toy_stage.registry(function, distributed), params, root, "words", "a", opened, version=1)
    finally:
        Witness(root).look()
    assert waiting_journals(root) == []
    key = json.loads((root / "provenance/words@a.json").read_text())["tracking_key"]
    run = run_of_key(open_store(), key)
    assert run is not None
    return run


def test_a_run_holds_parameters_metrics_inputs_outputs_and_pictures(root: Path, store: MlflowClient) -> None:
    run = store.get_run(tracked(root))
    assert run.info.status == "FINISHED"
    assert run.data.params == {"training.seed": "42", "recipe.name": "count"}
    assert run.data.metrics == {"words": 3.0, "loss": 0.5}
    assert [point.value for point in store.get_metric_history(run.info.run_id, "loss")] == [1.0, 0.5]
    assert run.data.tags["dagster.asset"] == "words"
    assert run.data.tags["dagster.partition"] == "a"
    assert run.inputs is not None
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.name == "text"
    assert len(dataset.dataset.digest) == 36

    def listed(folder: str | None = None) -> set[str]:
        return {file.path for file in store.list_artifacts(run.info.run_id, folder)}

    assert listed() == {"pictures", "outputs.json"}
    assert listed("pictures") == {"pictures/drawn.png"}
    outputs = json.loads(Path(store.download_artifacts(run.info.run_id, "outputs.json")).read_text())
    assert set(outputs) == {f"data/words/{name}" for name in ("words.txt", "large.bin", "manifest.json")}
    md5 = hashlib.md5((root / "data/words/words.txt").read_bytes()).hexdigest()
    assert outputs["data/words/words.txt"] == {"bytes": 13, "md5": md5}
    assert Path(run.info.artifact_uri.removeprefix("file://")).is_relative_to(root / "store")


def test_pictures_that_are_outputs_too_are_kept_once(tmp_path: Path) -> None:
    output, pictures = tmp_path / "data/drawn.png", tmp_path / "artifacts/pictures"
    pictures.mkdir(parents=True)
    output.parent.mkdir()
    for file in (output, pictures / "drawn.png"):
        file.write_bytes(b"picture")
    (pictures / "other.png").write_bytes(b"another")
    files = describe_files(output.parent, Path("data"))
    link_copies(pictures, tmp_path, files)
    assert (pictures / "drawn.png").samefile(output)
    assert (pictures / "other.png").read_bytes() == b"another"
    output.unlink()
    output.write_bytes(b"changed")
    link_copies(pictures, tmp_path, files)
    assert (pictures / "drawn.png").read_bytes() == b"picture"
    assert {file.name for file in pictures.iterdir()} == {"drawn.png", "other.png"}


def test_runs_that_nobody_will_end_are_closed(root: Path, store: MlflowClient) -> None:
    journal = Journal.create(root, "words@a", {})
    made = {
        key: store.create_run(
            experiment_id(store, "toys"), tags={"profile": profile, KEY_TAG: key, **stage}
        ).info.run_id
        for key, profile, stage in (
            (journal.key, "tracked", {"stage": "words"}),
            ("gone", "tracked", {"stage": "words"}),
            ("elsewhere", "other", {"stage": "words"}),
            ("by hand", "tracked", {}),
        )
    }
    assert close_abandoned(store, {"tracked": root}) == [made["gone"]]
    journal.end("KILLED")
    journal.remove()
    assert {key: store.get_run(run).info.status for key, run in made.items()} == {
        journal.key: "RUNNING",
        "gone": "KILLED",
        "elsewhere": "RUNNING",
        "by hand": "RUNNING",
    }


def test_a_running_stage_has_its_environment(root: Path, store: MlflowClient) -> None:
    run = store.get_run(tracked(root, distributed=True))
    named = Path(store.download_artifacts(run.info.run_id, "environment/packages.txt")).read_text()
    assert f"torch=={version('torch')}" in named.splitlines()
    told = json.loads(Path(store.download_artifacts(run.info.run_id, "environment/machine.json")).read_text())
    assert told["node"] == platform.node()


def test_a_failed_stage_is_a_failed_run_and_registers_nothing(root: Path, store: MlflowClient) -> None:
    tracked(root)
    versions = len(store.search_model_versions(f"name = '{MODEL}'"))
    with pytest.raises(RuntimeError, match="the stage broke"):
        tracked(root, "half_written")
    experiment = store.get_experiment_by_name("toys")
    assert experiment is not None
    newest = store.search_runs([experiment.experiment_id], max_results=1)[0]
    assert newest.info.status == "FAILED"
    assert len(store.search_model_versions(f"name = '{MODEL}'")) == versions


def test_trainings_of_a_profile_stand_below_one_run_and_tell_how_busy_the_machine_was(
    root: Path, store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.01")
    runs = [store.get_run(tracked(root, distributed=True)) for _ in range(2)]
    (parent,) = {run.data.tags["mlflow.parentRunId"] for run in runs}
    above = store.get_run(parent)
    assert above.data.tags["rlip.study"] == above.info.run_name == root.name
    assert above.info.status == "FINISHED"
    assert above.info.experiment_id == runs[0].info.experiment_id
    assert all(run.data.params["training.seed"] == "42" for run in runs)
    measured = {"system/cpu_utilization_percentage", "system/system_memory_usage_percentage"}
    assert all(measured < set(run.data.metrics) for run in runs)
    single = store.get_run(tracked(root)).data
    assert "mlflow.parentRunId" not in single.tags
    assert set(single.metrics) == {"words", "loss"}


def test_a_model_is_a_candidate_that_refers_to_its_files(root: Path, store: MlflowClient) -> None:
    """Bytes stay in DVC; the store has an MLmodel, a logged model and the hashes. Sending twice registers once."""
    run = tracked(root)
    (version,) = (each for each in store.search_model_versions(f"name = '{MODEL}'") if each.run_id == run)
    assert version.tags["item"] == "words@a"
    assert str(store.get_model_version_by_alias(MODEL, CANDIDATE).version) == str(version.version)
    experiment = experiment_id(store, "toys")
    logged = [each for each in store.search_logged_models([experiment]) if each.source_run_id == run]
    assert [(each.name, str(each.status), f"models:/{each.model_id}") for each in logged] == [
        (MODEL, "READY", version.source)
    ]
    folder = Path(logged[0].artifact_location.removeprefix("file://"))
    assert {path.name for path in folder.iterdir()} == {"MLmodel", "reference.json"}
    reference = json.loads((folder / "reference.json").read_text())
    assert (reference["root"], reference["folder"]) == (str(root), "data/words")
    assert set(reference["files"]) == {"words.txt", "large.bin", "manifest.json"}
    assert set(reference["files"].values()) <= referred_hashes()


def test_an_experiment_says_what_it_compares(store: MlflowClient) -> None:
    for name, words in EXPERIMENTS.items():
        assert store.get_experiment(experiment_id(store, name)).tags["mlflow.note.content"] == words


def test_profiles_that_begin_at_once_have_one_run_each(tmp_path: Path, store: MlflowClient) -> None:
    experiment = store.create_experiment("beginnings")

    def parent(number: int) -> str:
        return parent_run(open_store(), experiment, f"profile_{number % 2}", tmp_path)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(parent, range(8)))
    assert found == found[:2] * 4
    runs = store.search_runs([experiment])
    assert {run.info.run_id: run.info.run_name for run in runs} == {found[0]: "profile_0", found[1]: "profile_1"}


def test_promotion_moves_the_alias(root: Path, store: MlflowClient) -> None:
    first, second = (tracked(root) for _ in range(2))
    version, run = promote_model(MODEL)
    assert run == second
    assert str(store.get_model_version_by_alias(MODEL, CHAMPION).version) == version
    earlier = next(str(v.version) for v in store.search_model_versions(f"name = '{MODEL}'") if v.run_id == first)
    assert promote_model(MODEL, earlier) == (earlier, first)
    assert str(store.get_model_version_by_alias(MODEL, CHAMPION).version) == earlier


def test_what_was_never_registered_cannot_be_promoted(root: Path, store: MlflowClient) -> None:
    with pytest.raises(InputError, match="No model is registered as 'other'"):
        promote_model("other")
    tracked(root)
    with pytest.raises(InputError, match="has no version 99; it has 1"):
        promote_model(MODEL, "99")


def test_a_store_that_is_none_or_does_not_answer_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlflow.db").write_text("no database " * 200)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    with pytest.raises(InputError, match=r"mlflow\.db is not an MLflow store .*; restore it or move it away"):
        open_store()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mysql+nodriver://user:secret@/mlflow")
    with pytest.raises(InputError, match=r"store mysql\+nodriver:.*mlflow does not answer .*nodriver") as refused:
        open_store()
    assert "secret" not in str(refused.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"127\.0\.0\.1:9 does not answer .*; start it or unset MLFLOW_TRACKING_URI"):
        open_store()
