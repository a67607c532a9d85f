"""`rlip promote`: the gate opens for a good model only, and the record says what was promoted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.files import write_json
from rlip_assets.tracking.promotion import PROMOTIONS_FILE, promote, promoted_hashes, promotion
from rlip_assets.tracking.store import open_store, register_model


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
    register_model(client, "r_tagger", folder.as_uri(), run, "r_tagger")
    write_json(root / "provenance" / "r_tagger.json", {"mlflow_run": run})


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
    with pytest.raises(InputError, match=r"Version 1 of 'r_tagger' is not the one in the tree \(that is 2\)"):
        promote(root, "r_tagger", "1")
    run = open_store().create_run("0").info.run_id
    register_model(open_store(), "r_tagger", "file:///another/profile", run, "r_tagger")
    assert promote(root, "r_tagger").version == "2"
    write_json(root / "provenance" / "r_tagger.json", {"mlflow_run": "of-another-store"})
    with pytest.raises(InputError, match="made by run of-another-store, which is not in"):
        promote(root, "r_tagger")


def test_only_models_can_be_promoted(root: Path) -> None:
    for name in ("nothing", "scenes", "pretrain", "label_quality"):
        with pytest.raises(InputError, match="no model that can be promoted"):
            promote(root, name)


@pytest.mark.parametrize(
    "content", ["[1", "[1]", '{"r_tagger": 1}', '{"r_tagger": {"model": "r_tagger", "version": "1"}}']
)
def test_a_damaged_file_of_promotions_is_one_sentence(root: Path, content: str) -> None:
    (root / PROMOTIONS_FILE).write_text(content)
    with pytest.raises(DataError, match=r"promoted\.json .*; remove it and promote again"):
        promoted_hashes(root)
