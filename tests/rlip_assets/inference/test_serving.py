"""The packaged model answers JSON as `mlflow models serve` does, with the triplets of the detector itself."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from rlip_assets.inference.relation_detector import RelationDetector
from rlip_assets.tracking.serving import save_served_model
from rlip_model import ModelConfig, build_model, save_checkpoint, train_label_tokenizer

OBJECTS, RELATIONS = ["person", "horse", "dog"], ["ride", "feed"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = build_model(ModelConfig.preset("micro_parseda").without_dropout()).eval()
    tokenizer = train_label_tokenizer([*OBJECTS, *RELATIONS, "no objects"], 300)
    metadata = {
        "name": "tiny",
        "trained_on": "nothing",
        "image_size": [96, 160],
        "objects": OBJECTS,
        "relations": RELATIONS,
    }
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    save_checkpoint(folder, model, tokenizer, metadata)
    return folder


@pytest.fixture(scope="module")
def client(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    import mlflow.pyfunc
    from fastapi.testclient import TestClient
    from mlflow.pyfunc.scoring_server import init

    folder = tmp_path_factory.mktemp("served") / "model"
    save_served_model(checkpoint, folder)
    return TestClient(init(mlflow.pyfunc.load_model(str(folder))))


def encoded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def ask(client: Any, rows: list[dict[str, Any]], **params: float) -> Any:
    return client.post("/invocations", json={"dataframe_records": rows, "params": params})


def test_answers_with_the_triplets_of_the_detector(client: Any, checkpoint: Path) -> None:
    image = Image.effect_noise((120, 90), 80).convert("RGB")
    answer = ask(client, [{"image": encoded(image), "relations": ["feed"]}], threshold=0.0, limit=3)
    assert answer.status_code == 200, answer.text
    (row,) = json.loads(answer.text)["predictions"]
    assert (row["model"], row["trained_on"], row["width"], row["height"]) == ("tiny", "nothing", 120, 90)
    want = RelationDetector.from_pretrained(checkpoint)([image], OBJECTS, ["feed"], 0.0, 3)[0]
    assert row["relations"] == [triplet.as_dict() for triplet in want]
    assert len(want) == 3


def test_each_row_has_texts_of_its_own_or_none_has(client: Any) -> None:
    image = encoded(Image.new("RGB", (60, 50), "white"))
    rows = [{"image": image, "relations": ["see"]}, {"image": image, "relations": ["hear", "smell"]}]
    own = json.loads(ask(client, rows, threshold=0.0).text)["predictions"]
    assert {t["relation"] for t in own[0]["relations"]} == {"see"}
    assert {t["relation"] for t in own[1]["relations"]} <= {"hear", "smell"}
    rows = [{"image": f"data:image/png;base64,{image}"}]
    (usual,) = json.loads(ask(client, rows, threshold=0.0).text)["predictions"]
    assert {t["relation"] for t in usual["relations"]} <= set(RELATIONS)


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"image": "%%%"}, "not base64"),
        ({"image": base64.b64encode(b"no image").decode()}, "no image of a known format"),
        ({"image": encoded(Image.new("RGB", (9, 9))), "relations": []}, "no relation texts"),
        ({"relations": ["ride"]}, "image"),
    ],
)
def test_bad_requests_are_answered_with_a_sentence(client: Any, row: dict[str, Any], word: str) -> None:
    answer = ask(client, [row])
    assert answer.status_code == 400
    assert word in answer.json()["message"]
    assert "Traceback" not in answer.text
