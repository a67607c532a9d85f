"""`rlip study NAME` from nothing to its report, in a copy of the project whose worlds take seconds."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow.tracking import MlflowClient

from rlip_assets.datasets.scenes import read_scenes
from rlip_assets.lineage.profiles import PROJECT_ROOT
from tests.support.miniature import make_project

SIZES = "augmentation = { short_sides = [64], test_short_side = 64 }"
CHANGES = f"{{ batch_per_process = 4, holdout = 0.2, relation_threshold = 0.0, {SIZES} }}"
TINY = f"{{ batch_per_process = 4, {SIZES} }}"
OWN = 'own_labels = "hico_det", confidence_weight = true, merge = [0.5, 1.0], holdout = 0.1'
TOY = f"""
[defaults]
base = "study"
seeds = 1
recipe = "micro_vg_coco"
steps = 4

[toy]
title = "Toys"
evaluate_every = 0.2
arms.generated = {{ changes = {CHANGES} }}
arms.oracle = {{ params = {{ oracle = {{ captions = true }} }}, changes = {CHANGES} }}
comparisons = [{{ claim = "True captions help", higher = "oracle", lower = "generated" }}]

[unseen]
title = "Unseen classes"
stage = "finetune"
recipe = "micro_hico_unseen"
arms.published = {{ changes = {TINY} }}
arms.own = {{ changes = {{ unseen_images = "drop_empty", unseen_cells = "ignore", {OWN}, batch_per_process = 4, {SIZES} }} }}
comparisons = [{{ claim = "Own labels are better", higher = "own", lower = "published", figure = "unseen" }}]
"""
WITHOUT_STORE = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The program beside a profile `study` of miniature size and one study of two arms."""
    for package in ("rlip_assets", "rlip_model"):
        shutil.copytree(PROJECT_ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(PROJECT_ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    root = tmp_path / "profiles/study"
    for folder in ("", "profiles/study"):
        (tmp_path / folder / ".dvc").mkdir(parents=True)
        for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore"):
            shutil.copyfile(PROJECT_ROOT / folder / name, tmp_path / folder / name)
    make_project(root)
    content = yaml.safe_load((root / "params.yaml").read_text()) | {"profile": "study"}
    content["sources"]["coco"]["buckets"] = 1
    training = content["training"]
    # The start of fine-tunings is pre-trained on Visual Genome alone, so that nothing else is labelled for it.
    training["pretrain"]["vg"] = training["pretrain"]["vg_coco_o365"] | {"recipe": "micro_vg"}
    training["start"] = "pretrain/vg"
    (root / "params.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "rlip_assets/report/studies/studies.toml").write_text(TOY)
    return tmp_path


def run_study(project: Path, name: str = "toy") -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**WITHOUT_STORE, "PYTHONPATH": str(project), "PATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "rlip_assets.cli", "study", name]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.deep
def test_a_study_runs_reports_and_runs_nothing_twice(project: Path) -> None:
    output = run_study(project)
    assert set(re.findall(r"Running stage 'pretrain@(\w+)'", output)) == {"generated", "oracle"}
    # The second profile fetches what does not depend on captions, and makes again what does.
    assert output.count("Running stage 'r_tagger'") == 1
    assert output.count("Stage 'r_tagger' is cached") == 1
    assert output.count("Running stage 'captions@coco-0'") == 2
    facts = json.loads((project / "reports/studies/toy.json").read_text())
    assert [(arm["arm"], arm["steps"]) for arm in facts["arms"]] == [("generated", 4), ("oracle", 4)]
    assert set(facts["runs"]) == {"generated", "oracle"}
    assert all("earliness" in figures for figures in facts["runs"].values())
    (claim,) = facts["comparisons"]
    assert claim["verdict"] == "too few seeds"
    # Each profile is one run in the store, above its trainings.
    store = MlflowClient(f"sqlite:///{project}/mlruns/mlflow.db")
    runs = store.search_runs([experiment.experiment_id for experiment in store.search_experiments()])
    names = {run.info.run_id: run.info.run_name for run in runs}
    trained = [run for run in runs if run.data.tags.get("stage") == "pretrain"]
    parents = {run.data.tags["dagster.partition"]: names[run.data.tags["mlflow.parentRunId"]] for run in trained}
    assert parents == {arm: f"study_toy_{arm}" for arm in ("generated", "oracle")}
    assert all("evaluated_headline" in run.data.metrics and "loss" in run.data.metrics for run in trained)
    report = (project / "reports/studies/toy.md").read_text()
    assert "Running stage" not in run_study(project)
    assert (project / "reports/studies/toy.md").read_text() == report


@pytest.mark.deep
def test_a_study_fine_tunes_from_one_start_and_labels_training_images(project: Path) -> None:
    output = run_study(project, "unseen")
    assert re.findall(r"Running stage 'pretrain@(\w+)'", output) == ["vg"]
    assert set(re.findall(r"Running stage 'finetune@(\w+)'", output)) == {"published", "own"}
    assert set(re.findall(r"Running stage 'pseudo_labels@([\w-]+)'", output)) == {"hico_det-0"}
    facts = json.loads((project / "reports/studies/unseen.json").read_text())
    assert [(arm["arm"], arm["steps"], set(arm["figures"])) for arm in facts["arms"]] == [
        ("published", 4, {"unseen", "seen", "all"}),
        ("own", 4, {"unseen", "seen", "all"}),
    ]
    root = project / "profiles/study_unseen/data"
    figures = json.loads((root / "models/finetune/own/manifest.json").read_text())["figures"]
    assert figures["own_labels"]["used"] > 0
    assert figures["test_images_in_training"] == 0
    assert figures["merge_alpha"] in (0.5, 1.0)
    labelled = list(read_scenes(root / "pseudo_labels/hico_det/bucket-0"))
    assert labelled
    assert {scene.split for scene in labelled} == {"train"}
