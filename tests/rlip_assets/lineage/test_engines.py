"""Two local workers make the shards that one process makes; a dead worker loses no finished shard."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from rlip_assets.datasets.scenes import scene_hash
from rlip_assets.labelling.caption_parsing import parse_stage
from rlip_assets.labelling.captions.stage import caption_stage
from rlip_assets.labelling.label_tables import CandidateRow, CaptionRow, write_rows
from rlip_assets.labelling.tagging import tagging_stage
from rlip_assets.lineage.context import NullLog
from rlip_assets.lineage.engines import run
from rlip_assets.lineage.params.execution import ExecutionParams
from rlip_assets.lineage.shards import Shard, ShardStore
from rlip_assets.storage.errors import RlipError
from tests.support.engine_work import Counting, Deadly, Meeting
from tests.support.label_factory import (
    Log,
    captioner_folder,
    content,
    context,
    draw_bucket,
    make_params,
    tagger_folder,
    write_bucket,
    write_classes,
    write_raw_manifest,
)

ENGINES = [
    "processes",
    pytest.param("ray", marks=pytest.mark.ray),
]


@pytest.fixture(autouse=True)
def _workers_find_this_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's workers import what they are sent by its module's name, and inherit where to look."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))


@pytest.mark.parametrize("engine", ENGINES)
def test_two_workers_work_at_once_and_results_keep_their_order(engine: str, tmp_path: Path) -> None:
    execution = ExecutionParams.model_validate({"engine": engine, "workers": 2})
    found = list(run(Meeting(tmp_path), [0, 1, 2, 3], execution))
    assert [number for number, _, _ in found] == [0, 1, 2, 3]
    assert len({process for _, process, _ in found}) == 2
    assert os.getpid() not in {process for _, process, _ in found}
    assert {niceness for _, _, niceness in found} == {os.nice(0)}  # as urgent as the stage that waits for them


class HearingLog(NullLog):
    """Touches a file when it hears of rows of shards that are still being made."""

    def __init__(self, heard: Path) -> None:
        self.heard = heard

    def progress(self, done: int, total: int, unit: str) -> None:
        if done:
            self.heard.touch()


@pytest.mark.parametrize("engine", ["processes", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.deep])])
def test_rows_are_heard_of_while_workers_are_at_a_shard(engine: str, tmp_path: Path) -> None:
    execution = ExecutionParams.model_validate({"engine": engine, "workers": 2})
    shards = [Shard(number, [1, 2, 3], str(number)) for number in range(2)]
    store, log = ShardStore(tmp_path / "store", {}), HearingLog(tmp_path / "heard")
    made = store.make_all(shards, Counting(tmp_path / "heard"), log, "rows", execution)
    assert [shard.figures for shard in made] == [{"rows": 3}, {"rows": 3}]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_table_of_two_workers_is_that_of_one_process(engine: str, tmp_path: Path) -> None:
    rows = [CaptionRow(str(n), [f"a man riding horse {n}", "a dog on a bench"]) for n in range(20)]
    write_rows(tmp_path / "in" / "part-00000.parquet", CaptionRow, rows)
    made = {}
    for name, workers in (("here", 1), (engine, 2)):
        params = make_params(tmp_path, parsing={"rows_per_shard": 4}, execution={"engine": name, "workers": workers})
        ctx = context(tmp_path / name, "caption_triplets", params, {"captions": tmp_path / "in"}, "caption_triplets")
        made[name] = parse_stage(ctx), content(ctx.outputs["caption_triplets"])
    assert made["here"] == made[engine]
    assert len(made["here"][1]) > 4


@pytest.mark.deep
@pytest.mark.parametrize("engine", ENGINES)
def test_captions_of_two_workers_are_those_of_one_process(engine: str, tmp_path: Path) -> None:
    raw, scenes = tmp_path / "raw", draw_bucket(tmp_path / "raw", 9)
    inputs = {"scenes": write_bucket(tmp_path, scenes), "manifest": write_raw_manifest(tmp_path, raw, scenes)}
    inputs["captioner"] = captioner_folder(tmp_path)
    captions = {"rows_per_shard": 4, "batch_size": 3, "captions_per_image": 2, "max_tokens": 12}
    made = {}
    for name, workers in (("here", 1), (engine, 2)):
        params = make_params(raw, captions=captions, execution={"engine": name, "workers": workers})
        ctx = context(tmp_path / name, "captions", params, inputs, "captions", Log())
        made[name] = caption_stage(ctx), content(ctx.outputs["captions"])
    assert made["here"] == made[engine]


@pytest.mark.deep
@pytest.mark.parametrize("engine", ENGINES)
def test_pseudo_labels_of_two_workers_are_those_of_one_process(engine: str, tmp_path: Path) -> None:
    scenes = draw_bucket(tmp_path / "raw", 9)
    rows = [
        CandidateRow(s.image_id, scene_hash(s), [0, 1], [1, 2], ["ride", "hold"], ["riding", "holding"], [1, 2])
        for s in scenes
    ]
    write_rows(tmp_path / "candidates" / "part-00000.parquet", CandidateRow, rows)
    inputs = {
        "candidates": tmp_path / "candidates",
        "scenes": write_bucket(tmp_path, scenes),
        "manifest": write_raw_manifest(tmp_path, tmp_path / "raw", scenes),
        "classes": write_classes(tmp_path),
        "r_tagger": tagger_folder(tmp_path / "tagger"),
    }
    tagging = {"rows_per_shard": 4, "batch_size": 3, "store_threshold": 0.0}
    made = {}
    for name, workers in (("here", 1), (engine, 2)):
        params = make_params(tmp_path / "raw", tagging=tagging, execution={"engine": name, "workers": workers})
        ctx = context(tmp_path / name, "pseudo_labels", params, inputs, "pseudo_labels", Log())
        made[name] = tagging_stage(ctx), content(ctx.outputs["pseudo_labels"])
    assert made["here"] == made[engine]
    assert made["here"][0]["labels"] == 2 * len(scenes)


def test_a_dead_worker_is_one_sentence() -> None:
    with pytest.raises(RlipError, match=r"a worker process ended.*finished shards are kept"):
        list(run(Deadly(), [0, 1], ExecutionParams(engine="processes", workers=2)))


def test_workers_without_an_engine_are_refused() -> None:
    with pytest.raises(ValidationError, match="need the engine processes or ray"):
        ExecutionParams(workers=2)
