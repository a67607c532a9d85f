"""Metadata of an item beside its figures: why it failed, and its pictures."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dagster_dvc.lock import LockEntry
from dagster_project.metadata import describe, pictures
from dagster_project.translator import PipelineTranslator
from rlip_assets.lineage.spec import Registry, StageItem

ITEM = StageItem("captions", "coco-0", {}, {"captions": "data/captions"})
ENTRY = LockEntry("rlip stage captions", {}, {"data/captions": "0.dir"}, {})


def test_the_cause_of_a_failure_is_the_sentence_of_the_stage() -> None:
    cause_of = PipelineTranslator(Registry([]), "toy", lambda stage: 1).cause
    lines = [
        "Running stage 'captions':",
        "12/40 images",
        "rlip: /data/coco does not exist; set its root",
        "ERROR: failed to reproduce",
    ]
    assert cause_of(lines, 255) == "/data/coco does not exist; set its root"
    assert cause_of(["MemoryError", "", "ERROR: failed to reproduce 'captions'"], 255) == (
        "`dvc repro` ended with status 255 after the line: MemoryError"
    )
    assert cause_of([], 137) == "`dvc repro` ended with status 137"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An item with one large picture among its outputs and two in the artifacts of its MLflow run, one of them the same."""
    stored = tmp_path / "mlruns/artifacts/captions/run-1/artifacts/pictures"
    for folder, names in ((tmp_path / "data/captions", ["a.png"]), (stored, ["a.png", "b.png"])):
        folder.mkdir(parents=True)
        for name in names:
            Image.effect_noise((1500, 900), 80).save(folder / name)
    (tmp_path / "provenance").mkdir()
    (tmp_path / "provenance/captions@coco-0.json").write_text(
        json.dumps({"mlflow_run": "run-1", "mlflow_experiment": "3"})
    )
    return tmp_path


def test_pictures_come_from_the_outputs_then_from_the_run(root: Path) -> None:
    assert [file.relative_to(root).parts[0] for file in pictures(root, ITEM, "run-1", root)] == ["data", "mlruns"]
    assert [file.name for file in pictures(root, ITEM, "run-1", root)] == ["a.png", "b.png"]
    assert [file.name for file in pictures(root, ITEM, "run-of-another-store", root)] == ["a.png"]


def test_large_pictures_are_shown_small_and_the_run_is_linked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLIP_MLFLOW_UI", "http://127.0.0.1:5001")
    shown = describe(root, ITEM, ENTRY, {"figures": {"captions": 40, "by": {"verb": 0.5}}})
    assert shown["mlflow"].value == "http://127.0.0.1:5001/#/experiments/3/runs/run-1"
    assert (shown["captions"], shown["by.verb"]) == (40, 0.5)
    words = shown["picture/a"].value
    assert words.startswith("![a](data:image/jpeg;base64,")
    with Image.open(io.BytesIO(base64.b64decode(words.rpartition(",")[2].rstrip(")")))) as image:
        assert image.size == (720, 432)


def test_columns_of_a_table_are_shown(root: Path) -> None:
    schema = pa.schema([pa.field("image_id", pa.string(), nullable=False), pa.field("x1", pa.list_(pa.float32()))])
    pq.write_table(schema.empty_table(), root / "data/captions/part-0.parquet")
    columns = describe(root, ITEM, ENTRY, None)["dagster/column_schema"].columns
    assert [(one.name, one.type, one.constraints.nullable) for one in columns] == [
        ("image_id", "string", False),
        ("x1", "list<element: float>", True),
    ]


@pytest.mark.parametrize(
    ("line", "helps"),
    [
        ("ERROR: failed to reproduce 'captions@coco-0': failed to run: rlip stage captions, exited with 75", True),
        ("ERROR: failed to reproduce 'captions@coco-0': failed to run: rlip stage captions, exited with -9", True),
        ("ERROR: failed to reproduce 'captions@coco-0': failed to run: rlip stage captions, exited with 1", False),
        ("exited with 75 rows", False),
    ],
)
def test_a_second_try_is_made_where_it_can_help(line: str, helps: bool) -> None:
    translator = PipelineTranslator(Registry([]), "p", lambda stage: 1)
    assert translator.transient(["start", line], 255) == helps
