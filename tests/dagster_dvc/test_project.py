"""A DVC project is read as DVC resolves it."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from dagster_dvc import DvcTranslator, read_project
from dagster_dvc.assets import build_assets
from dagster_dvc.project import REPOSITORY_LOCK, DvcProject, DvcProjectError

Copy = Callable[[str], Path]


def edges(project: DvcProject) -> set[tuple[str, str]]:
    return {(parent, item.address) for item in project.items for parent in item.parents}


def test_the_graph_has_tracked_files_metrics_plots_and_parameters(shapes: Path) -> None:
    project = read_project(shapes / "get_started")
    assert edges(project) == {("data/data.txt.dvc", "prepare"), ("prepare", "train"), ("train", "evaluate")}
    assert [(stage.path, stage.is_source) for stage in project.stages] == [
        (("data", "data.txt"), True),
        (("prepare",), False),
        (("train",), False),
        (("evaluate",), False),
    ]
    assert project.at["prepare"].params == {"params.yaml": {"prepare.seed": 1}}
    assert project.at["evaluate"].metrics == ("metrics.json",)
    assert project.at["evaluate"].plots == ("roc.svg",)


def test_items_are_partitions_unless_they_depend_on_each_other(shapes: Path) -> None:
    stages = {"/".join(stage.path): stage for stage in read_project(shapes / "templates").stages}
    assert stages["source"].partitions == stages["shout"].partitions == ("a", "b")
    assert stages["cross"].partitions == ("a-1", "a-2", "b-1", "b-2")
    assert {name for name in stages if name.startswith("step")} == {"step/1", "step/2"}
    assert not stages["step/2"].partitioned
    assert stages["kept"].items[0].frozen
    assert stages["clock"].items[0].always_changed
    assert stages["notify"].items[0].outs == ()


def test_folders_and_working_directories(shapes: Path) -> None:
    project = read_project(shapes / "monorepo")
    build = project.at["features/dvc.yaml:build"]
    assert build.parents == ("data/dvc.yaml:load",)
    assert build.params == {"settings.json": {"depth": 3}}
    assert project.at["model/dvc.yaml:fit@small"].outs == ("model/work/small.txt",)
    assert [stage.path for stage in project.stages] == [("data", "load"), ("features", "build"), ("model", "fit")]


def test_partitions_of_parents_follow_the_items(shapes: Path) -> None:
    project = read_project(shapes / "templates")
    graph = dg.Definitions(assets=build_assets(project, DvcTranslator())).resolve_asset_graph()

    def mapping(child: str, parent: str) -> dg.PartitionMapping | None:
        return graph.get(dg.AssetKey([child])).partition_mappings.get(dg.AssetKey([parent]))

    assert isinstance(mapping("shout", "source"), dg.IdentityPartitionMapping)
    cross = mapping("cross", "shout")
    assert isinstance(cross, dg.StaticPartitionMapping)
    assert cross.downstream_partition_keys_by_upstream_partition_key == {"a": {"a-1", "a-2"}, "b": {"b-1", "b-2"}}
    assert isinstance(mapping("gather", "cross"), dg.AllPartitionMapping)
    some = mapping("some", "shout")
    assert isinstance(some, dg.SpecificPartitionsPartitionMapping)
    assert list(some.partition_keys) == ["a"]


def test_descriptions_owners_groups_and_tags(shapes: Path) -> None:
    specs = {
        spec.key.to_user_string(): spec
        for spec in dg.Definitions(
            assets=build_assets(read_project(shapes / "get_started"), DvcTranslator(["text"]))
        ).resolve_all_asset_specs()
    }
    prepare = specs["text/prepare"]
    assert (prepare.description, list(prepare.owners), prepare.group_name) == (
        "Split the text.",
        ["team:data"],
        "preparation",
    )
    assert specs["text/train"].description == "```\npython shout.py data/prepared/all.txt model.txt\n```"
    assert "text/data/data.txt" in specs
    flags = build_assets(read_project(shapes / "templates"), DvcTranslator())
    tags = {spec.key.to_user_string(): spec.tags for spec in dg.Definitions(assets=flags).resolve_all_asset_specs()}
    assert tags["kept"]["dvc/frozen"] == tags["clock"]["dvc/always_changed"] == "true"


def test_a_parameter_changes_the_code_version_of_those_who_read_it(project: Copy) -> None:
    root, translator = project("get_started"), DvcTranslator()

    def versions() -> dict[str, str]:
        return {stage.name: translator.code_version(stage) for stage in read_project(root).stages}

    before = versions()
    (root / "params.yaml").write_text("prepare: {seed: 2}\ntrain: {rate: 0.1, steps: 3}\n")
    after = versions()
    assert {name for name in before if before[name] != after[name]} == {"prepare"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "stages: {a: {cmd: ls, deps: [b], outs: [a]}, b: {cmd: ls, deps: [a], outs: [b]}}",
            "dependency and an output",
        ),
        ("stages: {a: {cmd: ls, outs: [x]}, b: {cmd: ls, outs: [x]}}", "x"),
        ("stages:\n  a: [", r"dvc\.yaml.*line 3, column 1"),
        ("stages: {a: {command: true}}", r"dvc\.yaml.*data\['stages'\]\['a'\]"),
        ("stages: {a: {cmd: 'echo ${lost.key}'}}", r"stages\.a\.cmd.*dvc\.yaml.*lost\.key"),
        ("vars: [lost.yaml]", r"lost\.yaml' does not exist"),
        ("<<<<<<< HEAD\nstages: {}\n", r"dvc\.yaml.*line 2"),
    ],
)
def test_what_dvc_refuses_is_one_sentence(project: Copy, content: str, words: str) -> None:
    root = project("templates")
    (root / "dvc.yaml").write_text(content)
    with pytest.raises(DvcProjectError, match=words) as caught:
        read_project(root)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_project_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DvcProjectError, match="not inside of a DVC"):
        read_project(tmp_path)


@pytest.mark.parametrize("folder", ["", "src"])
def test_a_lock_file_that_dvc_is_writing_is_waited_for(project: Copy, folder: str) -> None:
    """A half of it is refused by DVC's own reader; the process that holds the repository is about to write the rest."""
    root = project("get_started")
    (root / folder).mkdir(exist_ok=True)
    lock = root / "dvc.lock"
    lock.write_text("schema: '2.0'\nstages:\n  pre")
    held = (root / REPOSITORY_LOCK).open("w")
    fcntl.flock(held, fcntl.LOCK_EX)

    def finish() -> None:
        lock.unlink()
        held.close()

    writer = threading.Timer(1.5, finish)
    writer.start()
    assert read_project(root / folder).items
    assert not writer.is_alive()
