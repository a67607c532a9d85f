"""`rlip promote`: the gate opens for a good model only, and the record says what was promoted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.files import write_json
from rlip_assets.tracking.models import register_model
from rlip_assets.tracking.promotion import PROMOTIONS_FILE, promote, promoted_hashes, promotion
from rlip_assets.tracking.store import open_store


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile with a trained R-Tagger, registered in a store of its own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    (tmp_path / "params.yaml").write_text("promotion: {floor: 0.3, tolerance: 0.0}\n")
    trained(tmp_path, 0.5)
    return tmp_path


def trained(root: Path, score: float) -> None:
    folder = root / "data/models/r_tagger"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"figures": {"held_out_f1": score}}))
    entry = {"cmd": "train", "outs": [{"path": "data/models/r_tagger", "md5": f"{score}.dir"}]}
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"r_tagger": entry}}))
    client = open_store()
    run = client.create_run("0").info.run_id
    registered(root, "r_tagger", run)
    write_json(root / "provenance" / "r_tagger.json", {"mlflow_run": run})


def registered(root: Path, item: str, run: str) -> None:
    content = {"item": item, "description": "", "root": str(root), "profile": root.name, "folder": "f", "files": {}}
    register_model(open_store(), run, "0", "key", {**content, "name": f"{root.name}-{item.replace('@', '-')}"})


def test_a_better_model_takes_over_and_a_worse_one_does_not(root: Path) -> None:
    first = promote(root, "r_tagger")
    assert (first.version, first.score) == ("1", 0.5)
    trained(root, 0.4)
    with pytest.raises(InputError, match=r"r_tagger is not promoted: held_out_f1 0\.400, .* promoted version 1 0\.500"):
        promote(root, "r_tagger")
    assert promotion(root, "r_tagger") == first
    trained(root, 0.6)
    assert promote(root, "r_tagger").version == "3"
    assert promoted_hashes(root) == {"0.6.dir"}
    assert promotion(root, "r_tagger") != first


def test_a_model_below_the_floor_is_refused_even_as_the_first(root: Path) -> None:
    trained(root, 0.2)
    with pytest.raises(InputError, match=r"floor 0\.300"):
        promote(root, "r_tagger")
    assert promotion(root, "r_tagger") is None


def test_an_untrained_model_names_the_command(root: Path) -> None:
    (root / "dvc.lock").unlink()
    with pytest.raises(InputError, match="dvc repro --single-item r_tagger"):
        promote(root, "r_tagger")


def test_a_version_that_is_not_in_the_tree_is_refused(root: Path) -> None:
    """The record holds the hash of the model in the tree, so only the version of the run that made it may be promoted."""
    trained(root, 0.6)
    with pytest.raises(InputError, match=r"Version 1 of '.*-r_tagger' is not the one in the tree \(that is 2\)"):
        promote(root, "r_tagger", "1")
    registered(root, "r_tagger", open_store().create_run("0").info.run_id)
    assert promote(root, "r_tagger").version == "2"
    write_json(root / "provenance" / "r_tagger.json", {"mlflow_run": "of-another-store"})
    with pytest.raises(InputError, match="made by run of-another-store, which is not in"):
        promote(root, "r_tagger")


def test_only_models_can_be_promoted(root: Path) -> None:
    for name in ("nothing", "scenes", "pretrain", "label_quality"):
        with pytest.raises(InputError, match="no model that can be promoted; the models are r_tagger, pretrain@"):
            promote(root, name)


def test_a_detector_is_judged_by_its_own_benchmark(root: Path) -> None:
    """Named by its item or its registered name; the figures of a benchmark of other predictions open no gate."""

    def judged(predictions: str, headline: float) -> None:
        path = "data/predictions/finetune-v_coco"
        stages = {
            "finetune@v_coco": {"outs": [{"path": "data/models/finetune/v_coco", "md5": "1.dir"}, {"path": path, "md5": "2.dir"}]},
            "benchmark@finetune-v_coco": {"deps": [{"path": path, "md5": predictions}], "outs": []},
        }  # fmt: skip
        (root / "dvc.lock").write_text(
            yaml.safe_dump({"schema": "2.0", "stages": {name: {"cmd": "run", **each} for name, each in stages.items()}})
        )
        write_json(root / "data/benchmarks/finetune-v_coco/manifest.json", {"figures": {"headline": headline}})

    run = open_store().create_run("0").info.run_id
    registered(root, "finetune@v_coco", run)
    write_json(root / "provenance/finetune@v_coco.json", {"mlflow_run": None, "tracking_key": "key"})
    judged("another.dir", 0.5)
    with pytest.raises(InputError, match="benchmark@finetune-v_coco is not of the finetune@v_coco in the tree"):
        promote(root, "finetune@v_coco")
    judged("2.dir", 0.001)
    with pytest.raises(InputError, match=r"headline 0\.001, floor 0\.010"):
        promote(root, "finetune@v_coco")
    judged("2.dir", 0.5)
    assert promote(root, f"{root.name}-finetune-v_coco").run == run
    assert promotion(root, "finetune@v_coco") == promote(root, "finetune@v_coco")
    aliases = open_store().get_registered_model(f"{root.name}-finetune-v_coco").aliases
    assert {name: str(version) for name, version in aliases.items()} == {"candidate": "1", "champion": "1"}


@pytest.mark.parametrize(
    "content", ["[1", "[1]", '{"r_tagger": 1}', '{"r_tagger": {"model": "r_tagger", "version": "1"}}']
)
def test_a_damaged_file_of_promotions_is_one_sentence(root: Path, content: str) -> None:
    (root / PROMOTIONS_FILE).write_text(content)
    with pytest.raises(DataError, match=r"promoted\.json .*; remove it and promote again"):
        promoted_hashes(root)
