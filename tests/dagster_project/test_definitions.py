"""Definitions that Dagster loads are valid, light, complete, and the same graph as DVC's."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pytest
from dagster import AssetKey, Definitions

from dagster_project.definitions import defs
from dagster_project.profile import active_profile
from rlip_assets.lineage.datasets import DATASETS
from rlip_assets.lineage.spec import Registry
from rlip_assets.tracking.verdicts import checks_of


@pytest.fixture(scope="module")
def definitions() -> Definitions:
    return defs()


@pytest.fixture(scope="module")
def registry() -> Registry:
    return active_profile().registry


def key(stage: str) -> AssetKey:
    return AssetKey(["micro", stage])


def test_definitions_are_loadable(definitions: Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)


def test_loading_imports_neither_torch_nor_mlflow_nor_tables() -> None:
    code = (
        "import sys; from dagster_project.definitions import defs; defs().resolve_asset_graph();"
        "print([m for m in ('torch', 'transformers', 'mlflow', 'pandas', 'numpy', 'pyarrow') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(("package", "most"), [("dagster_project", 1000), ("dagster_dvc", 1199)])
def test_bridge_stays_small(package: str, most: int) -> None:
    """Blank lines and docstrings count: what no longer fits belongs to the stages, or is Dagster's to say."""
    files = (Path(__file__).parents[2] / package).rglob("*.py")
    assert sum(len(file.read_text().splitlines()) for file in files) <= most


def test_torchvision_is_absent() -> None:
    assert find_spec("torchvision") is None, (
        "torchvision breaks every transformers model here: remove what pulled it in"
    )


def test_selection_strings_work(definitions: Definitions) -> None:
    """They do not where DVC's dependencies have pulled an older antlr runtime than Dagster's parser was made with."""
    found = dg.AssetSelection.from_string('key:"micro/candidates"+').resolve(definitions.resolve_asset_graph())
    assert key("pseudo_labels") in found
    assert key("captions") not in found


def test_assets_are_the_stages(definitions: Definitions, registry: Registry) -> None:
    graph = definitions.resolve_asset_graph()
    assert graph.get_all_asset_keys() == {key(stage) for stage in registry.specs}
    for stage, spec in registry.specs.items():
        node = graph.get(key(stage))
        keys = tuple(node.partitions_def.get_partition_keys()) if node.partitions_def else ()
        assert keys == spec.partitions
        assert node.group_name == spec.group
        assert node.owners
        assert node.code_version
        assert node.description
        assert node.pools == ({spec.pool} if spec.pool else set())


def test_assets_and_stages_have_the_same_edges(definitions: Definitions, registry: Registry) -> None:
    graph = definitions.resolve_asset_graph()
    edges = {
        (parent.path[-1], child.path[-1])
        for child in graph.get_all_asset_keys()
        for parent in graph.get(child).parent_keys
    }
    assert edges == registry.stage_edges


def test_real_datasets_bring_their_own_stages(tmp_path: Path) -> None:
    """Decontamination of what is labelled and of what is trained on are stages of profiles with real datasets alone."""
    roots = "\n".join(f"  {name}: {{root: {tmp_path}}}" for name in DATASETS)
    external = "".join(f"  {name}: /models/{name}\n" for name in ("captioner", "detector", "text_encoder"))
    (tmp_path / "params.yaml").write_text(f"sources:\n{roots}\nexternal:\n{external}")
    code = f"""
import subprocess, sys
from pathlib import Path
from dagster import Definitions
from dagster_project import profile
profile.profile_root = lambda name: Path({str(tmp_path)!r})
from dagster_project.definitions import defs
from rlip_assets.dvc.pipeline import render_dvc_yaml
registry = profile.active_profile().registry
(Path({str(tmp_path)!r}) / "dvc.yaml").write_text(render_dvc_yaml(registry))
subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd={str(tmp_path)!r}, check=True)
found = defs()
Definitions.validate_loadable(found)
graph = found.resolve_asset_graph()
assets = graph.get_all_asset_keys()
assert {{asset.path[-1] for asset in assets}} == set(registry.specs)
edges = {{(above.path[-1], asset.path[-1]) for asset in assets for above in graph.get(asset).parent_keys}}
assert edges == registry.stage_edges
print(*sorted({{"decontamination", "human_decontamination"}} & set(registry.specs)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["decontamination", "human_decontamination"]


def test_partitions_have_the_same_edges(definitions: Definitions, registry: Registry) -> None:
    """Partition by partition: what Dagster says a partition reads is what the paths in dvc.yaml say."""
    graph = definitions.resolve_asset_graph()
    for item in registry.items():
        node = graph.get(key(item.stage))
        found = set()
        for parent in node.parent_keys:
            above = graph.get(parent)
            if above.partitions_def is None:
                found.add(parent.path[-1])
                continue
            mapping = graph.get_partition_mapping(key(item.stage), parent)
            subset = (
                node.partitions_def.subset_with_partition_keys([str(item.partition)]) if node.partitions_def else None
            )
            read = mapping.get_upstream_mapped_partitions_result_for_partitions(
                subset, node.partitions_def, above.partitions_def
            )
            found |= {f"{parent.path[-1]}@{k}" for k in read.partitions_subset.get_partition_keys()}
        assert found == set(registry.parents[item.address]), item.address


def test_a_backfill_takes_the_labels_of_a_bucket_in_one_run(definitions: Definitions) -> None:
    """Dagster puts assets into one run where it knows that each partition reads the one of the same key."""
    graph = definitions.resolve_asset_graph()
    chain = ["captions", "caption_triplets", "candidates", "pseudo_labels"]
    for parent, child in pairwise(chain):
        assert isinstance(graph.get_partition_mapping(key(child), key(parent)), dg.IdentityPartitionMapping)
    assert not isinstance(graph.get_partition_mapping(key("captions"), key("scenes")), dg.IdentityPartitionMapping)


def test_jobs_schedule_and_sensors_are_there(definitions: Definitions) -> None:
    repository = definitions.get_repository_def()
    jobs = set(repository.job_names)
    assert {"whole_lineage", "pseudo_label", "pretrain", "benchmark", "retag"} <= jobs
    assert [schedule.name for schedule in repository.schedule_defs] == ["weekly_retag"]
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "new_images",
        "new_objects",
        "promoted_r_tagger",
        "retagging_alerts",
        "retention",
        "dvc_synchronisation",
        "default_automation_condition_sensor",
    }


def test_every_stage_declares_its_checks(definitions: Definitions, registry: Registry) -> None:
    found = {(key.asset_key.path[-1], key.name) for key in definitions.resolve_asset_graph().asset_check_keys}
    assert found == {(stage, check.name) for stage in registry.specs for check in checks_of(stage)}
