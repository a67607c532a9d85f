"""`mlflow.pyfunc.load_model("models:/NAME@alias")` opens a registered checkpoint, from the tree or from DVC's cache."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from PIL import Image

from rlip_assets.inference.relation_detector import RelationDetector
from rlip_assets.storage.errors import InputError
from rlip_assets.tracking.models import register_model
from rlip_assets.tracking.references import describe_files
from rlip_assets.tracking.store import experiment_id, open_store
from rlip_model import ModelConfig, build_model, save_checkpoint, train_label_tokenizer

TEXTS = ["person", "horse", "ride", "feed"]


def encoded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


IMAGE = Image.effect_noise((120, 90), 80).convert("RGB")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setattr("rlip_assets.tracking.references.PROJECT_ROOT", tmp_path / "installed")
    (tmp_path / ".dvc").mkdir()
    return tmp_path


def registered(root: Path, item: str, preset: str) -> Path:
    """Register a tiny network as the model of `item`; returns its checkpoint."""
    torch.manual_seed(0)
    model = build_model(ModelConfig.preset(preset).without_dropout()).eval()
    metadata = {"name": "tiny", "image_size": [96, 160], "objects": TEXTS[:2], "relations": TEXTS[2:]}
    folder = root / "data/models" / item
    save_checkpoint(folder, model, train_label_tokenizer([*TEXTS, "no objects"], 300), metadata)
    client = open_store()
    experiment = experiment_id(client, "finetuning")
    files = {path: each["md5"] for path, each in describe_files(folder, Path()).items()}
    content = {"name": "model", "item": item, "description": "", "root": str(root), "profile": "micro"}
    run = client.create_run(experiment).info.run_id
    register_model(client, run, experiment, "key", content | {"folder": f"data/models/{item}", "files": files})
    return folder


def opened() -> Any:
    return mlflow.pyfunc.load_model("models:/model@candidate")


def test_a_detector_answers_from_the_tree_and_from_the_cache(root: Path) -> None:
    folder = registered(root, "finetune@v_coco", "micro_parseda")
    rows = pd.DataFrame([{"image": encoded(IMAGE), "objects": TEXTS[:2], "relations": ["feed"]}])
    want = [
        each.as_dict() for each in RelationDetector.from_pretrained(folder)([IMAGE], TEXTS[:2], ["feed"], 0.0, 3)[0]
    ]
    assert opened().predict(rows, params={"threshold": 0.0, "limit": 3})[0]["relations"] == want
    # a later training has replaced the file in the tree: the version is what it was, from the cache, or is not opened
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(b"of a later training")
    with pytest.raises(InputError, match=r"model\.safetensors .* is neither in .* nor in its DVC cache; .*`dvc pull`"):
        opened()
    md5 = hashlib.md5(content).hexdigest()
    cached = root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    cached.parent.mkdir(parents=True)
    cached.write_bytes(content)
    assert opened().predict(rows, params={"threshold": 0.0, "limit": 3})[0]["relations"] == want


def test_an_r_tagger_scores_given_boxes(root: Path) -> None:
    registered(root, "r_tagger", "micro_tagger")
    model = opened()
    row = {"image": encoded(IMAGE), "boxes": [[5, 5, 60, 80], [30, 10, 110, 85]], "labels": TEXTS[:2]}
    rows = pd.DataFrame([{**row, "relations": TEXTS[2:]}])
    found = model.predict(rows, params={"threshold": 0.0, "limit": 10})[0]["relations"]
    assert {(each["subject"], each["relation"], each["object"]) for each in found} == {
        (subject, relation, other)
        for subject, other in (("person", "horse"), ("horse", "person"))
        for relation in TEXTS[2:]
    }
    scores = [each["score"] for each in found]
    assert scores == sorted(scores, reverse=True)
    assert found[0]["subject_box"] in row["boxes"]
    assert len(model.predict(rows, params={"threshold": 0.0, "limit": 1})[0]["relations"]) == 1
    assert model.predict(rows, params={"threshold": 1.0, "limit": 9})[0]["relations"] == []
    for name, value, words in (
        ("labels", ["person"], "2 boxes and 1 labels"),
        ("boxes", [[5, 5, 5, 80], [30, 10, 110, 85]], "has no area"),
        ("boxes", [[5, 5], [30, 10]], "list of|boxes and"),
        ("relations", [" "], "empty text"),
    ):
        with pytest.raises(MlflowException, match=words):
            model.predict(pd.DataFrame([{**rows.iloc[0].to_dict(), name: value}]))
