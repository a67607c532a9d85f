"""One wrong value of any JSON type in any field of any file: a result or one sentence, never a traceback."""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlip_assets.evaluation.evaluate_files import Request, evaluate_files
from rlip_assets.evaluation.formats.class_lists import coco_order, pair_order
from rlip_assets.evaluation.formats.predictions import METADATA_KEY, PredictionBatch
from rlip_assets.evaluation.v_coco.content import read_official_content, write_official_content
from rlip_assets.evaluation.v_coco.official import VcocoOfficialEvaluator
from rlip_assets.storage.errors import RlipError
from tests.support.published_forms import (
    KNOBS,
    hoia,
    official_files,
    pair_list,
    parquet,
    qpic,
    scene_table,
    upt,
    written,
)
from tests.support.random_official_worlds import make_official_world


class Files:
    """Files of one evaluation by their role, all JSON, and the request about them."""

    def __init__(self, folder: Path, dataset: str, predictions: Path, annotations: Path, **others: Any) -> None:
        self.folder, self.others = folder, others
        self.request = Request(dataset, predictions, annotations, **others)
        self.paths = [path for path in (predictions, annotations, *others.values()) if path.suffix == ".json"]
        if annotations.is_dir():
            self.paths.append(annotations / "classes.json")
        self.contents = {path: json.loads(path.read_text()) for path in self.paths}


def in_hico(form: Callable[..., Any]) -> Callable[[Path], Files]:
    classes = coco_order("hico_det") if form is qpic else pair_order("hico_det")
    return lambda folder: Files(
        folder, "hico_det", written(folder, form("hico_det", classes)), pair_list(folder, "hico_det")
    )


def in_v_coco(form: Callable[..., Any]) -> Callable[[Path], Files]:
    classes = coco_order("v_coco") if form is qpic else pair_order("v_coco")
    return lambda folder: Files(folder, "v_coco", written(folder, form("v_coco", classes)), pair_list(folder, "v_coco"))


def interactions(folder: Path) -> Files:
    records = qpic("hico_det", coco_order("hico_det"))
    for record in records:
        record["predictions"] = [{"bbox": box["bbox"]} for box in record["predictions"]]
    labels = written(folder, {record["filename"]: [1, 2] for record in records}, "labels.json")
    return Files(folder, "hico_det", written(folder, records), hoia(folder, "hico_det"), image_labels=labels)


def named_classes(folder: Path) -> Files:
    classes = pair_order("hico_det")
    names = written(folder, {"objects": classes.objects, "verbs": classes.verbs}, "names.json")
    return Files(
        folder,
        "hico_det",
        written(folder, upt("hico_det", classes)),
        scene_table(folder, "hico_det"),
        list_classes=names,
    )


def official(folder: Path) -> Files:
    """The official files and content of V-COCO, in a random world."""
    results, actions, instances, _ = official_files(folder)
    return Files(folder, "v_coco", results, actions, instances=instances)


FORMS: dict[str, Callable[[Path], Files]] = {
    "QPIC": in_hico(qpic),
    "UPT": in_hico(upt),
    "QPIC, V-COCO": in_v_coco(qpic),
    "UPT, V-COCO": in_v_coco(upt),
    "interactions, HOIA, image labels": interactions,
    "scene table, named classes": named_classes,
    "official V-COCO": official,
}
WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([10**9, 2**63, -(10**30), 1e39, 0.5, float("nan"), float("inf")]),
    st.sampled_from(["", "false", "1", "person", "\x00", "ä|\n"]),
    st.sampled_from([[], {}, [[]], [None], {"a": 1}, ["person"], [1, 2, 3, 4]]),
)


FOLDERS: list[tempfile.TemporaryDirectory[str]] = []


def fresh_folder() -> Path:
    """A new folder, deleted when the interpreter ends: what is in it may be cached."""
    FOLDERS.append(tempfile.TemporaryDirectory())
    return Path(FOLDERS[-1].name)


@cache
def files(name: str) -> Files:
    return FORMS[name](fresh_folder())


def places(content: Any) -> Iterator[tuple[Any, ...]]:
    """The place of every value of a JSON document, as keys and indices."""
    yield ()
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inner:
        for place in places(value):
            yield (key, *place)


@cache
def places_of(name: str) -> list[tuple[Path, tuple[Any, ...]]]:
    """Yield places where a value can be wrong, fields of the first rows as often as all others."""
    found = [(path, place) for path, content in files(name).contents.items() for place in places(content)]
    shallow = [entry for entry in found if all(key in (0, 1) or isinstance(key, str) for key in entry[1])]
    return found + shallow * max(1, len(found) // len(shallow))


def judged_with(name: str, path: Path, place: tuple[Any, ...], value: Any) -> str:
    """The sentence of the evaluation with one value replaced, "" where it gives a result."""
    case = files(name)
    content = copy.deepcopy(case.contents[path])
    if place:
        holder = content
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = value
    else:
        content = value
    path.write_text(json.dumps(content))
    sentence = sentence_of(case.request)
    path.write_text(json.dumps(case.contents[path]))
    return sentence


def sentence_of(request: Request) -> str:
    try:
        evaluate_files(request, causes=True)
    except RlipError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", FORMS)
def test_files_are_right_as_they_are(name: str) -> None:
    assert any(any(result.figures.values()) for result in evaluate_files(files(name).request).results)


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=60)
@given(data=st.data())
def test_a_wrong_value_is_one_sentence(name: str, data: st.DataObject) -> None:
    path, place = data.draw(st.sampled_from(places_of(name)))
    sentence = judged_with(name, path, place, data.draw(WRONG))
    assert "\n" not in sentence
    assert not sentence or any(each.name in sentence for each in files(name).paths)


@pytest.mark.deep
@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=10_000 // len(FORMS) + 1)
@given(data=st.data())
def test_ten_thousand_wrong_values_are_sentences(name: str, data: st.DataObject) -> None:
    path, place = data.draw(st.sampled_from(places_of(name)))
    judged_with(name, path, place, data.draw(WRONG))


@settings(max_examples=60)
@given(key=st.sampled_from(["schema", "benchmark", "objects", "verbs", "metadata", ""]), value=WRONG)
def test_a_wrong_value_in_the_header_of_predictions_is_one_sentence(key: str, value: Any) -> None:
    folder = fresh_folder()
    path = parquet(folder, "hico_det")
    table = pq.read_table(path)
    header = json.loads(table.schema.metadata[METADATA_KEY])
    header = {**header, key: value} if key else value
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(header)}), path)
    sentence = sentence_of(Request("hico_det", path, pair_list(folder, "hico_det")))
    assert not sentence or "own.parquet" in sentence


OTHER_COLUMNS: dict[str, Callable[[int], pa.Array]] = {
    "texts": lambda rows: pa.array(["false"] * rows),
    "nulls": lambda rows: pa.nulls(rows),
    "true": lambda rows: pa.array([True] * rows),
    "numbers": lambda rows: pa.array(np.full(rows, np.nan)),
    "lists": lambda rows: pa.array([[1.0, 2.0]] * rows),
    "records": lambda rows: pa.array([{"a": 1}] * rows),
}


@pytest.mark.parametrize("kind", OTHER_COLUMNS)
@pytest.mark.parametrize("name", ["image_id", "person_box", "hit_agent", "hit_obj"])
def test_a_wrong_column_of_official_content_is_one_sentence(tmp_path: Path, name: str, kind: str) -> None:
    truth, path = make_official_world(KNOBS).truth, tmp_path / "content.parquet"
    table = pq.read_table(parquet_files()[2])
    column = OTHER_COLUMNS[kind](table.num_rows)
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, column), path)
    if kind == "nulls" and name.startswith("hit"):  # a record may name its predicted actions only
        assert len(read_official_content(path, truth).persons)
        return
    with pytest.raises(RlipError, match=rf"content\.parquet, row 0.* {name} is|content\.parquet, row 0: image"):
        read_official_content(path, truth)


@cache
def parquet_files() -> tuple[Path, Path, Path]:
    """Annotations, predictions of this project, and official content of `make_official_world(KNOBS)`."""
    folder = fresh_folder()
    world = make_official_world(KNOBS)
    evaluator = VcocoOfficialEvaluator(world.truth, world.vocabulary)
    evaluator.update(PredictionBatch.of(world.images, len(world.vocabulary.verbs)))
    content = folder / "content.parquet"
    write_official_content(content, world.truth, evaluator.detections())
    return pair_list(folder, "hico_det"), parquet(folder, "hico_det"), content


@settings(max_examples=100)
@given(data=st.data(), kept=st.floats(0.5, 1), official=st.booleans())
def test_damaged_bytes_are_one_sentence(data: st.DataObject, kept: float, official: bool) -> None:
    annotations, *files = parquet_files()
    path = files[official]
    whole = path.read_bytes()
    damaged = bytearray(whole[: int(kept * len(whole))] if data.draw(st.booleans()) else whole)
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=8)):
        damaged[place] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        if official:
            read_official_content(path, make_official_world(KNOBS).truth)
        else:
            evaluate_files(Request("hico_det", path, annotations))
    except RlipError as error:
        assert path.name in str(error)  # noqa: PT017 - a flipped byte may do no harm
    finally:
        path.write_bytes(whole)


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """Opening one would wait for ever."""
    annotations, predictions, _ = parquet_files()
    os.mkfifo(tmp_path / "pipe.json")
    for request in (
        Request("hico_det", tmp_path / "pipe.json", annotations),
        Request("hico_det", predictions, tmp_path / "pipe.json"),
        Request("hico_det", predictions, annotations, image_labels=tmp_path / "pipe.json"),
    ):
        with pytest.raises(RlipError, match=r"pipe\.json is no (regular )?file"):
            evaluate_files(request)
