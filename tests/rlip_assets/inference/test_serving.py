"""The packaged model answers JSON as `mlflow models serve` does, with the triplets of the detector itself."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from rlip_assets.inference.relation_detector import RelationDetector
from rlip_assets.inference.serving import MAX_BYTES
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


def ask(client: Any, rows: list[dict[str, Any]], **params: Any) -> Any:
    body = json.dumps({"dataframe_records": rows, "params": params})
    return client.post("/invocations", content=body, headers={"Content-Type": "application/json"})


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


def png(width: int, height: int) -> str:
    """A small file of a large black picture, in base64."""
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


SMALL = encoded(Image.new("RGB", (9, 9)))
BAD_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "no base64": ({"image": "%%%"}, "row 1 is not base64"),
    "no image": ({"image": base64.b64encode(b"no image").decode()}, "no image of a known format"),
    "no bytes": ({"image": ""}, "the file is empty"),
    "truncated": ({"image": SMALL[:64]}, "row 1"),
    "too many pixels": ({"image": png(9999, 9999)}, "99980001|9999 x 9999 pixels"),
    "no texts": ({"image": SMALL, "relations": []}, "no relation texts"),
    "an empty text": ({"image": SMALL, "relations": [" "]}, "an empty one"),
    "no Unicode": ({"image": SMALL, "relations": ["\ud800"]}, "surrogates"),
    "too many texts": ({"image": SMALL, "objects": [str(n) for n in range(1001)]}, "at most 1000 texts"),
    "a long text": ({"image": SMALL, "objects": ["a" * 101]}, "at most 100 characters"),
    "no column": ({"relations": ["ride"]}, "image"),
    "a number": ({"image": 5}, "image"),
    "null": ({"image": None}, "image"),
    "texts as text": ({"image": SMALL, "relations": "ride"}, "relations"),
}


def refused(answer: Any, word: str) -> None:
    """The answer is one sentence that tells nothing of the machine."""
    assert 400 <= answer.status_code < 500
    assert re.search(word, answer.text)
    assert not re.search(r"Traceback|stack_trace|site-packages|\.py\b|/tmp/|/home/", answer.text), answer.text


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows_are_answered_with_a_sentence(client: Any, case: str) -> None:
    row, word = BAD_ROWS[case]
    refused(ask(client, [row]), word)


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"threshold": math.nan}, "threshold"),
        ({"threshold": -0.5}, "threshold is -0.5"),
        ({"threshold": math.inf}, "threshold"),
        ({"limit": -1}, "limit is -1"),
        ({"limit": 0}, "limit is 0"),
        ({"limit": 10**9}, "at most 200"),
        ({"limit": "many"}, "limit"),
    ],
)
def test_bad_parameters_are_refused(client: Any, params: dict[str, Any], word: str) -> None:
    refused(ask(client, [{"image": SMALL}], **params), word)


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'image\n"', "text/csv", 415),
        (b"PAR1", "application/x-parquet", 415),
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"dataframe_records": "x"}', "application/json", 400),
        (b'{"dataframe_split": {"columns": [1], "data": [[1, 2]]}}', "application/json", 400),
        (b'{"inputs": {"image": [[1]]}}', "application/json", 400),
        (b" " * (MAX_BYTES + 1), "application/json", 413),
    ],
)
def test_what_is_no_request_is_refused(client: Any, content: bytes, kind: str, status: int) -> None:
    answer = client.post("/invocations", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status
    refused(answer, "")


def test_a_request_has_few_rows_and_one_is_answered_at_a_time(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(ask(client, [{"image": SMALL}] * 17), "17 rows: send at most 16")
    at_work, most = [], []

    def slow(text: str, row: int) -> Image.Image:
        at_work.append(row)
        most.append(len(at_work))
        time.sleep(0.02)
        at_work.pop()
        return Image.new("RGB", (9, 9))

    monkeypatch.setattr("rlip_assets.inference.serving.decoded_image", slow)
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: ask(client, [{"image": SMALL}] * 3), range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert (len(most), max(most)) == (18, 1)


def test_an_unexpected_failure_tells_nothing(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: str, row: int) -> Image.Image:
        raise OSError(28, "No space left on device", "/home/someone/secret")

    monkeypatch.setattr("rlip_assets.inference.serving.decoded_image", fail)
    answer = ask(client, [{"image": SMALL}])
    assert answer.status_code == 500
    assert "its log says why" in answer.text
    assert "secret" not in answer.text
