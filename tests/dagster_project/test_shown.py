"""Metadata of an item beside its figures: why it failed, and its pictures."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from dagster_project.metadata import describe
from dagster_project.translator import PipelineTranslator
from rlip_assets.lineage.spec import Registry, StageItem

ITEM = StageItem("captions", "coco-0", {}, {"captions": "data/captions"})


def test_the_cause_of_a_failure_is_the_sentence_of_the_stage() -> None:
    cause_of = PipelineTranslator(Registry([]), "toy").cause
    lines = [
        "Running stage 'captions':",
        "12/40 images",
        "rlip: /data/coco does not exist; set its root",
        "ERROR: failed to reproduce",
    ]
    assert cause_of(lines, 255) == "/data/coco does not exist; set its root"
    failed = "ERROR: failed to reproduce 'captions': failed to run: rlip stage captions, exited with 1"
    assert cause_of(["MemoryError", "", failed], 255) == (
        "failed to reproduce 'captions': the command exited with 1 after the line: MemoryError"
    )
    assert cause_of([], 137) == "`dvc repro` ended with status 137"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one item, and two large pictures in the artifacts of its MLflow run."""
    stored = tmp_path / "mlruns/artifacts/captions/run-1/artifacts/pictures"
    for folder in (stored, tmp_path / "data/captions", tmp_path / "provenance"):
        folder.mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.effect_noise((1500, 900), 80).save(stored / name)
    (tmp_path / "data/captions/manifest.json").write_text('{"figures": {"captions": 40, "by": {"verb": 0.5}}}')
    (tmp_path / "provenance/captions@coco-0.json").write_text(
        json.dumps({"mlflow_run": "run-1", "mlflow_experiment": "3", "seconds": {"work": 2.5}})
    )
    monkeypatch.setenv("RLIP_MLFLOW_UI", "http://127.0.0.1:5001")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def test_figures_seconds_and_the_run_with_its_pictures_are_shown(root: Path) -> None:
    shown = describe(root, ITEM, root)
    assert shown["mlflow"].value == "http://127.0.0.1:5001/#/experiments/3/runs/run-1"
    assert (shown["captions"], shown["by.verb"], shown["seconds/work"]) == (40, 0.5, 2.5)
    assert {name for name in shown if name.startswith("picture/")} == {"picture/a", "picture/b"}
    words = shown["picture/a"].value
    assert words.startswith("![a](data:image/jpeg;base64,")
    with Image.open(io.BytesIO(base64.b64decode(words.rpartition(",")[2].rstrip(")")))) as image:
        assert image.size == (720, 432)


def test_a_run_of_another_store_and_an_item_that_never_ran_show_what_there_is(root: Path) -> None:
    (root / "mlruns/artifacts/captions/run-1").rename(root / "mlruns/artifacts/captions/run-2")
    assert not any(name.startswith("picture/") for name in describe(root, ITEM, root))
    (root / "provenance/captions@coco-0.json").unlink()
    (root / "data/captions/manifest.json").unlink()
    assert describe(root, ITEM, root) == {}


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
    translator = PipelineTranslator(Registry([]), "p")
    assert translator.transient(["start", line], 255) == helps
