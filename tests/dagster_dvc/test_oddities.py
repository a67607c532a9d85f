"""What DVC allows and Dagster refuses, reads otherwise or would confuse: names, keys, owners, parameters, metrics, records."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_dvc import DvcTranslator, Item, load_definitions, read_project, report_external
from dagster_dvc.assets import build_assets
from dagster_dvc.lock import digest, read_lock
from dagster_dvc.project import DvcProject, DvcProjectError
from tests.dagster_dvc.test_both_directions import changed, everything, materialise, newest, stale
from tests.support.dvc_shapes import dvc, make

Copy = Callable[[str], Path]


@pytest.fixture(scope="module")
def odd(shapes: Path) -> DvcProject:
    return read_project(shapes / "oddities")


def test_every_name_becomes_an_asset_of_its_own(odd: DvcProject) -> None:
    definitions = dg.Definitions(assets=build_assets(odd, DvcTranslator()))
    keys = {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    plain = {"import", "on", "a-b", "a_b", "größe", "data", "data.dvc", "share", "score"}
    assert keys == {*plain, "dots/x...y", "dots/z/1"}
    definitions.resolve_implicit_global_asset_job_def()
    partitions = {stage.path: stage.partitions for stage in odd.stages if stage.partitioned}
    assert partitions == {("share",): ("eu/no", "0.5")}


def test_owners_groups_and_descriptions_are_made_valid(odd: DvcProject) -> None:
    definitions = dg.Definitions(assets=build_assets(odd, DvcTranslator()))
    specs = {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}
    assert list(specs["import"].owners) == ["team:Ann Lee", "ann@example.com"]
    assert specs["import"].group_name == "__1"
    assert str(specs["share"].description).startswith("Take 0.1.\n\nThis is of `share@eu/no`")
    assert specs["a-b"].description == "```\necho `date` > a-b.txt\n```"
    assert specs["on"].description == "```\necho 1 > on.txt && echo 2 >> on.txt\n```"


def test_parameters_of_every_kind_of_file(odd: DvcProject) -> None:
    params = odd.at["score"].params
    assert params["settings.py"] == {"SIZES": [1, 2], "Model.kinds": ("a", "b")}
    assert params["labels.yaml"] == {"names": {0: "cat", 1: "dog"}}
    assert params["params.yaml"] == {"empty": None}
    assert params["none.json"] == {}
    assert odd.at["share@eu/no"].params["extra.toml"] == {"rates": {"low": 0.1}}


KEYS = st.one_of(st.text(max_size=3), st.integers(), st.dates(), st.booleans(), st.none())
VALUES = st.recursive(
    st.one_of(KEYS, st.floats()), lambda inner: st.dictionaries(KEYS, inner, max_size=3) | st.lists(inner, max_size=3)
)


@given(VALUES)
def test_every_value_has_a_digest(value: Any) -> None:
    assert digest(value) == digest(value)
    assert digest({"a": value, 1: value}) == digest({1: value, "a": value})


def test_a_set_of_a_python_file_has_one_digest_in_every_process() -> None:
    code = "from dagster_dvc.lock import digest; print(digest({'KINDS': {'a', 'b', ('c', 1), frozenset('de')}}))"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in "123"
    }
    assert len(said) == 1
    assert len(said.pop().strip()) == 32


def test_files_of_the_project_hide_no_module_and_words_of_a_stage_are_not_dvcs(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    files = {"said.txt": "ERROR: Unable to acquire lock\n", "random.py": "raise SystemExit(9)"}
    root = make(tmp_path / "p", {**files, "dvc.yaml": {"stages": {"a": {"cmd": "cat said.txt; exit 3"}}}})
    failed = materialise(root, instance, "a")
    (event,) = [event for event in failed.all_events if event.is_step_failure]
    assert "failed to reproduce 'a': the command exited with 3" in str(event.step_failure_data.user_failure_data)
    assert "DVC is busy" not in str([record.user_message for record in instance.all_logs(failed.run_id)])


def test_two_projects_make_one_code_location(shapes: Path) -> None:
    roots = {"a": shapes / "monorepo", "b c": shapes / "monorepo/data"}
    both = dg.Definitions.merge(*(load_definitions(root, DvcTranslator([name])) for name, root in roots.items()))
    names = {sensor.name for sensor in both.get_repository_def().sensor_defs}
    assert names == {"a_dvc_synchronisation", "b_c_dvc_synchronisation"}


def test_what_dvc_made_is_reported_with_its_metrics(project: Copy, instance: dg.DagsterInstance) -> None:
    root, translator = project("oddities"), DvcTranslator()
    (root / "none.json").write_text('{"a": 1}')
    dvc(root, "repro", "--all-pipelines")
    made = read_project(root)
    assert {item.address for item in report_external(instance, made, translator)} == set(made.at)
    assert stale(root, instance) == {}
    shown = {name: value.value for name, value in newest(instance, "score").metadata.items()}
    assert (shown["best"], shown["bare"], shown["size"]) == (1e-5, 0.25, 3)
    assert shown["eval/train.json:auc"] == shown["eval/test.json:auc"] == 0.5
    assert shown["eval/train.json:loss"] == "nan"
    assert shown["eval/train.json:path"] == "a"
    assert shown["path"] == str(root / "eval")
    assert newest(instance, "share", "eu/no").metadata["path"].value == str(root / "out/eu/no/share.txt")


@pytest.mark.deep
def test_everything_odd_runs_from_dagster(project: Copy, instance: dg.DagsterInstance) -> None:
    root = project("oddities")
    (root / "none.json").write_text('{"a": 1}')
    everything(root, instance)
    assert changed(root) == {}


def test_keys_with_slashes_and_words_of_yaml_run(project: Copy, instance: dg.DagsterInstance) -> None:
    root = project("oddities")
    assert materialise(root, instance, "share", "eu/no").success
    assert materialise(root, instance, "on").success
    assert (root / "out/eu/no/share.txt").read_text() == "0.1\n"
    assert newest(instance, "on").metadata["ran"].value is True


def test_a_tree_that_is_not_as_recorded_is_not_reported_until_it_is(
    project: Copy, instance: dg.DagsterInstance
) -> None:
    """As after `git pull` and before `dvc checkout`: the record is new, and the files are old."""
    from dagster_dvc.component import build_sensor

    root = project("monorepo")
    dvc(root, "repro", "--all-pipelines")
    (root / "features/table.txt").unlink()
    (root / "features/table.txt").write_text("an older table")
    sensor = build_sensor(read_project(root), DvcTranslator())
    first = sensor.evaluate_tick(dg.build_sensor_context(instance=instance))
    assert "reported 3" in str(first.skip_message)
    assert "`dvc checkout` brings them): features/dvc.yaml:build" in str(first.skip_message)
    dvc(root, "checkout", "--force")
    second = sensor.evaluate_tick(dg.build_sensor_context(instance=instance, cursor=first.cursor))
    fits = (
        "model/dvc.yaml:fit@small, model/dvc.yaml:fit@large"  # made from it: reported again, or they would look older
    )
    assert f"reported 3 external materialisations: features/dvc.yaml:build, {fits}" in str(second.skip_message)


def test_a_folder_of_a_project_stands_for_the_project(shapes: Path) -> None:
    assert read_project(shapes / "monorepo/data").root == (shapes / "monorepo").resolve()


RECORDS = {
    "bucket.dvc": "outs: [{path: bucket, hash: md5, files: [{relpath: a, md5: MD5, cloud: {s3: {etag: ETAG}}}]}]",
    "import.dvc": "deps: [{path: x, repo: {url: git, rev_lock: MD5}}]\nouts: [{path: x, md5: same}]",
    "url.dvc": "deps: [{path: 's3://bucket/x', etag: MD5}]\nouts: [{path: y, md5: same}]",
    "set.dvc": "deps: [{path: 'ds://set', dataset: {name: set, rev: MD5}}]\nouts: [{path: z, md5: same}]",
}


@pytest.mark.parametrize("record", RECORDS)
def test_records_of_versioned_buckets_imports_and_datasets_tell_versions_apart(tmp_path: Path, record: str) -> None:
    project = DvcProject(tmp_path, (Item(record, record, None, "", "", None, outs=("x",)),))

    def entry(md5: str, etag: str = "1") -> Any:
        (tmp_path / record).write_text(RECORDS[record].replace("MD5", md5).replace("ETAG", etag))
        return read_lock(project)[record]

    assert entry("one") == entry("one", "2")  # pushed
    assert entry("one").fingerprint != entry("two").fingerprint
    assert (entry("one").data_version != entry("two").data_version) == (record == "bucket.dvc")
    assert all("://" in path for path in entry("one").deps if record in ("url.dvc", "set.dvc"))


@pytest.mark.parametrize("text", ["<<<<<<< HEAD\nouts: []\n=======\n", "- a", "outs: [", "stages: {a: [b]}", "\x00"])
def test_a_record_in_conflict_is_one_sentence_with_the_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.dvc").write_text(text)
    with pytest.raises(DvcProjectError, match=r"a\.dvc is not a valid DVC file .*git checkout") as caught:
        read_lock(DvcProject(tmp_path, (Item("a.dvc", "a", None, "", "", None),)))
    assert "\n" not in str(caught.value)
