"""A stage that SIGKILL ends at any moment goes on and writes the bytes that it would have written."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from rlip_assets.labelling.label_tables import CaptionRow, write_rows
from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.profiles import relative_project
from rlip_assets.lineage.registry import build_registry
from rlip_assets.lineage.spec import Registry, StageItem
from tests.support.killed import file_operations, kill_after, kill_before, preload, run_whole, tree
from tests.support.miniature import make_project

KILLS, KILLS_OF_EVERY_DAY = 20, 3
PARSING = "caption_triplets@coco-0"
LINEAGE = [
    "micro_world",
    "raw_manifest@coco",
    "scenes@coco-0",
    "captions@coco-0",
    "caption_triplets@coco-0",
    "candidates@coco-0",
    "r_tagger",
    "pseudo_labels@coco-0",
    "label_quality",
    "pretrain@vg_coco_o365",
    "finetune@hico_full",
    "benchmark@finetune-hico_full",
    "report",
]
LIGHT = ("rlip_assets.lineage.registry", "rlip_assets.lineage.runner", "rlip_assets.labelling.caption_parsing.stage")
HEAVY = (
    *LIGHT,
    "rlip_assets.training.stage",
    "rlip_assets.labelling.captions.captioner",
    "rlip_assets.labelling.tagging.candidate_tagger",
)


def registry_of(root: Path) -> Registry:
    return build_registry(load_params(root / "params.yaml"), relative_project(root))


def outputs_of(root: Path, item: StageItem) -> list[Path]:
    """Outputs of an item; the world's raw datasets are none of its outputs in DVC."""
    raw = [root / "data/raw"] if item.stage == "micro_world" else []
    return [*(root / path for path in item.outputs.values()), *raw]


def forget(root: Path, item: StageItem) -> None:
    """As if the item had never run: no outputs, no shards, no raw data of its own."""
    shutil.rmtree(root / "work", ignore_errors=True)
    for path in outputs_of(root, item):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def remove_outputs(root: Path, item: StageItem) -> None:
    """Do what DVC does before it runs a stage again."""
    for path in item.outputs.values():
        shutil.rmtree(root / path) if (root / path).is_dir() else (root / path).unlink(missing_ok=True)


def deep_after(first: int, count: int) -> list[object]:
    """Numbers 0 to count - 1; those from `first` on run in the deep tests alone."""
    return [n if n < first else pytest.param(n, marks=pytest.mark.deep) for n in range(count)]


@pytest.fixture(scope="module")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature lineage, each item run once. Copy it to change it."""
    preload(*HEAVY)
    root = tmp_path_factory.mktemp("miniature") / "project"  # as deep as its copies: results name what lies outside
    root.mkdir()
    make_project(root)
    for address in registry_of(root).order:
        run_whole(root, address)
    return root


@pytest.mark.deep
@pytest.mark.parametrize("address", LINEAGE)
def test_each_stage_survives_kills_at_random_moments(lineage: Path, tmp_path: Path, address: str) -> None:
    """Twenty kills one after the other; whenever a run ends before its moment, the next begins from nothing."""
    root = tmp_path / "project"
    shutil.copytree(lineage, root)
    item = registry_of(root).at(address)
    expected = {name.replace(str(lineage), ""): data for name, data in tree(*outputs_of(lineage, item)).items()}
    forget(root, item)
    seconds = run_whole(root, address)
    forget(root, item)
    moments = random.Random(address)
    kills = ends = 0
    while kills < KILLS:
        remove_outputs(root, item)
        if kill_after(root, address, moments.uniform(0.0, seconds)):
            kills += 1
        else:
            ends += 1
            seconds *= 0.9
            forget(root, item)
        assert ends < 10 * KILLS, "no run lives long enough to be killed"
    remove_outputs(root, item)
    run_whole(root, address)
    assert {name.replace(str(root), ""): data for name, data in tree(*outputs_of(root, item)).items()} == expected


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes], int]:
    """A profile with captions of one bucket, the table parsed from them, and the number of file operations that this took."""
    preload(*LIGHT)
    root = tmp_path_factory.mktemp("parsed")
    make_project(root)
    rows = [CaptionRow(str(n), [f"a man riding horse {n}", "a dog on a bench next to a man"]) for n in range(40)]
    write_rows(root / "data/captions/coco/bucket-0/part-00000.parquet", CaptionRow, rows)
    operations = file_operations(root, PARSING)
    item = registry_of(root).at(PARSING)
    table = tree(*outputs_of(root, item))
    assert len(table) > 10
    forget(root, item)
    return root, table, operations


@pytest.mark.parametrize("number", deep_after(KILLS_OF_EVERY_DAY, KILLS))
def test_a_table_survives_a_kill_at_a_fault_point(parsed: tuple[Path, dict[str, bytes], int], number: int) -> None:
    """Each kill meets another fault point, between the first file operation and the last, the fault points after a resume included."""
    root, expected, operations = parsed
    item = registry_of(root).at(PARSING)
    forget(root, item)
    point = random.Random(f"fault {number}").randint(1, operations)
    kill_before(root, PARSING, point)
    remove_outputs(root, item)
    run_whole(root, PARSING)
    assert tree(*outputs_of(root, item)) == expected
    assert not [name for folder in os.walk(root / "work") for name in folder[1] if name.endswith(".tmp")]
