"""The official V-COCO files and results: the oracle's figures, whatever form they come in, and a clear sentence for what is broken."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlip_assets.evaluation.evaluate_files import Request, evaluate_files
from rlip_assets.evaluation.formats.predictions import PredictionBatch
from rlip_assets.evaluation.v_coco.content import read_official_content, write_official_content
from rlip_assets.evaluation.v_coco.official import VcocoOfficialEvaluator, evaluate_official
from rlip_assets.evaluation.v_coco.official_files import read_official_annotations
from rlip_assets.report.evaluation_page import write_evaluation
from rlip_assets.storage.errors import DataError, InputError, ParameterError
from tests.oracle.v_coco_official import evaluate_vcoco_official
from tests.support.published_forms import KNOBS, official_files, written
from tests.support.random_official_worlds import make_official_world


def figures_of(request: Request) -> dict[str, float]:
    (result,) = evaluate_files(request).results
    return {f"{result.name}/{name}": value for name, value in result.figures.items()}


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_official_content_survives_a_file(tmp_path: Path, suffix: str) -> None:
    world = make_official_world(KNOBS)
    evaluator = VcocoOfficialEvaluator(world.truth, world.vocabulary)
    evaluator.update(PredictionBatch.of(world.images, len(world.vocabulary.verbs)))
    path = tmp_path / f"results.{suffix}"
    write_official_content(path, world.truth, evaluator.detections())
    (expected,) = evaluator.compute()
    (found,) = evaluate_official(world.truth, read_official_content(path, world.truth))
    assert found.figures == expected.figures
    assert found.figures["agent_ap"] > 0


def test_official_files_give_the_oracles_figures(tmp_path: Path) -> None:
    results, actions, instances, theirs = official_files(tmp_path)
    figures = figures_of(Request("v_coco", results, actions, instances=instances))
    assert figures["v_coco/official/agent_ap"] == pytest.approx(theirs["AP_agent"], abs=1e-12)
    assert figures["v_coco/official/role_ap_s1_25"] == pytest.approx(theirs["AP_role_1"], abs=1e-12)
    assert figures["v_coco/official/role_ap_s2_24"] == pytest.approx(theirs["AP_role_2 without point"], abs=1e-12)


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_caches_with_predicted_keys_only_score_as_their_template(tmp_path: Path, suffix: str) -> None:
    """UPT and its successors answer for a key that a record lacks: score 0, and a box of a tenth of a pixel."""
    results, actions, instances, _ = official_files(tmp_path)
    rng = np.random.default_rng(3)
    partial, full = [], []
    for record in json.loads(results.read_text()):
        keys = [key for key, value in record.items() if key not in ("image_id", "person_box") and value is not None]
        kept = {"image_id", "person_box", *rng.choice(keys, 3, replace=False)}
        partial.append({key: value for key, value in record.items() if key in kept})
        template = {key: 0.0 if key.endswith("_agent") else [0.0, 0.0, 0.1, 0.1, 0.0] for key in record}
        full.append({key: math.nan if value is None else value for key, value in {**template, **partial[-1]}.items()})
    for record in full:
        for key, value in record.items():
            record[key] = [math.nan if each is None else each for each in value] if isinstance(value, list) else value
    path = written(tmp_path, partial)
    if suffix == "parquet":
        path = tmp_path / "cache.parquet"
        pq.write_table(pa.Table.from_pylist([{**dict.fromkeys(full[0]), **record} for record in partial]), path)
    content = [json.loads(file.read_text()) for file in (instances, actions)]
    known = {image for action in content[1] for image in action["image_id"]}
    theirs = evaluate_vcoco_official(
        full,
        [row for row in content[0]["images"] if row["id"] in known],
        [row for row in content[0]["annotations"] if row["image_id"] in known],
        content[1],
    )["metrics"]
    figures = figures_of(Request("v_coco", path, actions, instances=instances))
    assert figures["v_coco/official/agent_ap"] == pytest.approx(theirs["AP_agent"], abs=1e-12)
    assert figures["v_coco/official/role_ap_s2_25"] == pytest.approx(theirs["AP_role_2"], abs=1e-12)
    assert figures["v_coco/official/role_ap_s1_25"] == pytest.approx(theirs["AP_role_1"], abs=1e-12) != 0


def test_a_report_of_official_files_says_what_it_lacks(tmp_path: Path) -> None:
    results, actions, instances, theirs = official_files(tmp_path)
    request = Request("v_coco", results, actions, instances=instances)
    page = write_evaluation(
        tmp_path / "report", request, evaluate_files(request, causes=True), images=tmp_path
    ).read_text()
    assert f"<td>agent_ap</td><td>{100 * theirs['AP_agent']:.2f}</td>" in page
    assert "judged person by person" in page
    assert not (tmp_path / "report/errors.json").exists()


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda record: record.pop(key)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda record: record.update(fly_agent=0.5), "row 1 has the action 'fly_agent', which the annotations lack"),
        (
            lambda record: [record.pop(key) for key in list(record) if key not in ("image_id", "person_box")],
            "row 1 has no action",
        ),
        (without("person_box"), "row 1: person_box is missing"),
        (lambda record: record.update(image_id=99), "row 1: image '99' is not in the annotations"),
        (lambda record: record.update(person_box=[1, 2, 3]), "row 1: person_box is .* four finite numbers"),
        (lambda record: record.update(person_box=[1, 2, 3, None]), "row 1: person_box is .* None"),
        (lambda record: record.update(cut_agent=math.nan), "row 1: cut_agent is nan; expected a finite number"),
        (lambda record: record.update(cut_obj=[1, 2, 3, 4, math.inf]), "row 1: cut_obj is .* inf"),
        (lambda record: record.update(cut_obj=0.5), "row 1: cut_obj is 0.5; expected x1, y1, x2, y2 and a score"),
    ],
)
def test_broken_official_content_is_refused_by_row(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    results, actions, instances, _ = official_files(tmp_path)
    content = json.loads(results.read_text())
    change(content[1])
    with pytest.raises(DataError, match=sentence):
        read_official_content(written(tmp_path, content), read_official_annotations(actions, instances))


def test_broken_official_files_are_refused(tmp_path: Path) -> None:
    results, actions, instances, _ = official_files(tmp_path)
    request = Request("v_coco", results, actions, instances=instances)
    with pytest.raises(ParameterError, match="leave --instances out"):
        evaluate_files(Request("hico_det", results, actions, instances=instances))
    with pytest.raises(DataError, match="not V-COCO actions and COCO instances"):
        read_official_annotations(instances, actions)
    content = json.loads(instances.read_text())
    written(tmp_path, {**content, "images": content["images"][1:]}, "instances.json")
    with pytest.raises(DataError, match="lacks image 0"):
        evaluate_files(request)
    for field, value in (("bbox", [1, 2, 3]), ("bbox", [1, 2, math.nan, 4]), ("area", None)):
        changed_box = {**content["annotations"][2], field: value}
        rows = [*content["annotations"][:2], changed_box, *content["annotations"][3:]]
        written(tmp_path, {**content, "annotations": rows}, "instances.json")
        with pytest.raises(DataError, match=r"instances\.json: annotations, row 2"):
            evaluate_files(request)
    pickle = tmp_path / "results.pkl"
    pickle.write_bytes(b"\x80\x02]q\x00.")
    with pytest.raises(InputError, match="pickles can run code"):
        evaluate_files(Request("v_coco", pickle, actions, instances=instances))
    with pytest.raises(InputError, match=r"only \.json and \.parquet are read"):
        read_official_content(pickle, make_official_world(KNOBS).truth)
