"""Files that number classes, name images or measure boxes differently give the same figures, a refusal or a warning; never 0 in silence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat
from typer.testing import CliRunner

from rlip_assets.cli.application import app
from rlip_assets.datasets.sources.classes import hico_classes
from rlip_assets.evaluation.core.image_names import ImageNames
from rlip_assets.evaluation.evaluate_files import Evaluation, Request, evaluate_files
from rlip_assets.evaluation.formats.annotations import read_annotations
from rlip_assets.evaluation.formats.class_lists import ClassList, coco_ids, coco_order, pair_order
from rlip_assets.evaluation.formats.mat_cache import NAME
from rlip_assets.storage.errors import DataError, InputError, ParameterError, RlipError
from tests.support.published_forms import (
    ANNOTATIONS,
    LISTS,
    WORLDS,
    Spell,
    cells,
    mat_cache,
    pair_list,
    parquet,
    qpic,
    scene_table,
    upt,
    written,
)


def main_figure(found: Evaluation) -> float:
    return found.results[-1 if "v_coco" in found.results[-1].protocol else 0].figures[
        "map_all" if "v_coco" in found.results[-1].protocol else "full"
    ]


@pytest.mark.parametrize("dataset", WORLDS)
@pytest.mark.parametrize("annotations", ANNOTATIONS)
@pytest.mark.parametrize("form", ["QPIC", "UPT", "COCO ids", "Parquet"])
def test_every_form_finds_everything_on_every_form_of_annotations(
    tmp_path: Path, dataset: str, annotations: str, form: str
) -> None:
    coco, pairs, ids = LISTS[dataset]
    path = ANNOTATIONS[annotations](tmp_path, dataset)
    if form == "Parquet":
        predictions = parquet(tmp_path, dataset)
    else:
        predictions = written(
            tmp_path, {"QPIC": qpic(dataset, coco), "UPT": upt(dataset, pairs), "COCO ids": qpic(dataset, ids)}[form]
        )
    found = evaluate_files(Request(dataset, predictions, path, coco_ids=form == "COCO ids"))
    assert main_figure(found) == pytest.approx(1)
    assert found.suspicions == ()


@pytest.mark.parametrize("annotations", ANNOTATIONS)
def test_interactions_by_number_are_those_of_hico(tmp_path: Path, annotations: str) -> None:
    """GEN-VLKT and HOICLIP: boxes without labels, triplets with one of 600 classes, also as the program prints them."""
    official, coco = hico_classes(), coco_order("hico_det")
    numbers = {(verb, label): hoi for hoi, (verb, label) in enumerate(official.hois or [])}
    records = qpic("hico_det", coco)
    for record in records:
        boxes = record["predictions"]
        for pair in record["hoi_prediction"]:
            pair["category_id"] = numbers[pair["category_id"], boxes[pair["object_id"]]["category_id"]]
        record["predictions"] = [{"bbox": box["bbox"]} for box in boxes]
        record["hoi_prediction"] *= 2  # a program that looks its best scores up by value lists equal ones twice
    path = ANNOTATIONS[annotations](tmp_path, "hico_det")
    found = evaluate_files(Request("hico_det", written(tmp_path, records), path))
    assert found.results[0].figures["max_recall"] == 1
    assert found.suspicions == ()
    printed = written(tmp_path, str({"preds": records, "gts": []}).replace("0.9", "np.float32(0.9)"), "printed.json")
    again = evaluate_files(Request("hico_det", printed, path))
    for first, second in zip(found.results, again.results, strict=True):
        assert second.figures == pytest.approx(dict(first.figures), nan_ok=True)
    records[0]["hoi_prediction"][0]["category_id"] = 600
    with pytest.raises(DataError, match=r"triplet 0: interaction 600 is outside 0\.\.599"):
        evaluate_files(Request("hico_det", written(tmp_path, records), path))


@pytest.mark.parametrize("order", [pair_order("hico_det"), coco_order("hico_det")], ids=["UPT", "COCO"])
def test_a_cache_for_matlab_is_read(tmp_path: Path, order: ClassList) -> None:
    cache = mat_cache(tmp_path, order)
    for annotated in ANNOTATIONS.values():
        found = evaluate_files(Request("hico_det", cache, annotated(tmp_path, "hico_det")))
        assert main_figure(found) == pytest.approx(1)
        assert found.suspicions == ()
    with pytest.raises(InputError, match="one file of a cache of 80; give their folder"):
        evaluate_files(Request("hico_det", cache / NAME.format(1), pair_list(tmp_path, "hico_det")))
    with pytest.raises(ParameterError, match="a cache of HICO-DET, not of v_coco"):
        evaluate_files(Request("v_coco", cache, pair_list(tmp_path, "v_coco")))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda path: path.unlink(), "does not exist; a cache has 80 files"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "is not a whole Matlab file"),
        (lambda path: path.write_bytes(b"no matrix"), "is not a whole Matlab file"),
        (lambda path: savemat(path, {"boxes": 1}), "has no cell array 'all_boxes'"),
        (lambda path: savemat(path, {"all_boxes": np.ones((10, 3))}), "has no cell array 'all_boxes'"),
        (lambda path: savemat(path, {"all_boxes": cells(2, 3)}), "has 2 rows of interactions"),
        (lambda path: savemat(path, {"all_boxes": cells(10, 4)}), "has 4 images, the annotations 3"),
        (lambda path: savemat(path, {"all_boxes": cells(10, 3, "text")}), "row 0, column 0 is .* expected an"),
        (lambda path: savemat(path, {"all_boxes": cells(10, 3, np.ones((1, 5)))}), r"\(1, 5\); expected an \(n, 9\)"),
        (lambda path: savemat(path, {"all_boxes": cells(10, 3, np.full((1, 9), np.nan))}), "detection 0 is .*nan"),
        (lambda path: savemat(path, {"all_boxes": cells(10, 3, -np.ones((1, 9)))}), "score -1.0 is no score"),
    ],
)
def test_a_broken_cache_is_refused_by_file_and_cell(
    tmp_path: Path, change: Callable[[Path], object], sentence: str
) -> None:
    cache = mat_cache(tmp_path, pair_order("hico_det"))
    change(cache / NAME.format(1))
    with pytest.raises(RlipError, match=sentence) as caught:
        evaluate_files(Request("hico_det", cache, pair_list(tmp_path, "hico_det")))
    assert str(cache) in str(caught.value)


@pytest.mark.parametrize(
    ("form", "classes", "sentence"),
    [
        (
            qpic,
            pair_order("hico_det"),
            "not those of QPIC, CDN and RLIPv2: .* 100 % if they are those of UPT and PViC; name",
        ),
        (
            upt,
            coco_order("hico_det"),
            "not those of UPT and PViC: .* 100 % if they are those of QPIC, CDN and RLIPv2; name",
        ),
        (qpic, coco_ids("hico_det"), "100 % if they are those of COCO's category ids; read them with --coco-ids"),
    ],
    ids=["QPIC's form in UPT's order", "UPT's form in QPIC's order", "COCO ids"],
)
@pytest.mark.parametrize("annotations", ANNOTATIONS)
def test_numbers_of_another_list_are_refused_until_it_is_named(
    tmp_path: Path, annotations: str, form: Callable[..., Any], classes: ClassList, sentence: str
) -> None:
    path = ANNOTATIONS[annotations](tmp_path, "hico_det")
    request = Request("hico_det", written(tmp_path, form("hico_det", classes)), path)
    with pytest.raises(DataError, match=sentence):
        evaluate_files(request)
    if not classes.objects[0]:
        assert main_figure(evaluate_files(replace(request, coco_ids=True))) == pytest.approx(1)
        return
    named = written(tmp_path, {"objects": classes.objects, "verbs": classes.verbs}, "classes_of_the_list.json")
    assert main_figure(evaluate_files(replace(request, list_classes=named))) == pytest.approx(1)


def test_a_list_of_unpublished_classes_needs_their_names(tmp_path: Path) -> None:
    """Without interactions nothing tells which order is right; with them a list that fits is believed."""
    path = scene_table(tmp_path, "v_coco", 1)
    classes = json.loads((path / "classes.json").read_text())
    classes["objects"].append("unicorn")
    (path / "classes.json").write_text(json.dumps(classes))
    request = Request("v_coco", written(tmp_path, qpic("v_coco", coco_order("v_coco"))), path)
    with pytest.raises(
        DataError, match=r"what its numbers stand for cannot be known, .* name its classes with --list-classes"
    ):
        evaluate_files(request)
    assert main_figure(evaluate_files(replace(request, list_classes=path / "classes.json"))) == pytest.approx(1)


@pytest.mark.parametrize(("kind", "empty"), [("objects", []), ("objects", ["background"]), ("verbs", [])])
def test_a_list_that_names_no_class_is_refused(tmp_path: Path, kind: str, empty: list[str]) -> None:
    official = coco_order("hico_det")
    named = written(tmp_path, {"objects": official.objects, "verbs": official.verbs} | {kind: empty}, "names.json")
    request = Request(
        "hico_det", written(tmp_path, qpic("hico_det", official)), pair_list(tmp_path, "hico_det"), list_classes=named
    )
    with pytest.raises(DataError, match=f"names.json: {kind} names no class"):
        evaluate_files(request)


def test_triplets_of_classes_that_the_benchmark_lacks_are_counted(tmp_path: Path) -> None:
    """The pair list of V-COCO has no action without an object."""
    records = qpic("v_coco", coco_order("v_coco"))
    walk = coco_order("v_coco").verbs.index("walk")
    records[0]["hoi_prediction"].append({"subject_id": 0, "object_id": 2, "category_id": walk, "score": 0.5})
    found = evaluate_files(Request("v_coco", written(tmp_path, records), pair_list(tmp_path, "v_coco")))
    assert found.counts["triplets_of_other_classes"] == 1
    assert main_figure(found) == pytest.approx(1)


@pytest.mark.parametrize("dataset", WORLDS)
@pytest.mark.parametrize(
    "spell",
    [
        lambda name: name[:-4],
        lambda name: f"images/test/{name}",
        lambda name: f"C:\\photos\\{name[:-4]}.PNG",
        lambda name: int(name[-12:-4]),
        lambda name: float(int(name[-12:-4])),
        lambda name: f"test/{int(name[-12:-4])}.jpg",
    ],
    ids=["no ending", "folder", "Windows", "number", "number of a table library", "number with an ending"],
)
@pytest.mark.parametrize("annotations", ANNOTATIONS)
def test_images_are_found_under_their_other_names(tmp_path: Path, annotations: str, spell: Spell, dataset: str) -> None:
    path = ANNOTATIONS[annotations](tmp_path, dataset)
    found = evaluate_files(Request(dataset, written(tmp_path, qpic(dataset, coco_order(dataset), spell)), path))
    assert main_figure(found) == pytest.approx(1)
    doubled = qpic(dataset, coco_order(dataset)) + qpic(dataset, coco_order(dataset), spell)
    with pytest.raises(DataError, match="was predicted before"):
        evaluate_files(Request(dataset, written(tmp_path, doubled), path))


def test_a_number_names_no_image_of_another_kind() -> None:
    """Training images have numbers too, and two images may share one."""
    names = ImageNames(["HICO_test2015_00000001.jpg", "a/7.jpg", "b/8.jpg", "c/8.jpg"])
    assert names.find("HICO_train2015_00000001.jpg") is None
    assert names.find("1") == "HICO_test2015_00000001.jpg"
    assert names.find("x_7.jpg") == "a/7.jpg"
    assert names.find("8") is names.find("8.jpg") is None
    assert names.find("c/8.jpg") == "c/8.jpg"


@pytest.mark.parametrize(
    ("predictions", "sentence"),
    [
        (lambda folder: parquet(folder, "hico_det", shift=1), "no subject is labelled 'person'"),
        (lambda folder: parquet(folder, "hico_det", shift=1), "its objects seem to count from 1"),
        (lambda folder: parquet(folder, "hico_det", scale=1 / 640), "no box reaches beyond 0.656 pixels"),
        (lambda folder: parquet(folder, "hico_det", scale=8), "most boxes reach over their images' edges"),
        (
            lambda folder: written(folder, qpic("hico_det", coco_order("hico_det"), objects_from=1)),
            "no subject is a person: most have label 1 .bicycle.",
        ),
        (
            lambda folder: written(folder, upt("hico_det", pair_order("hico_det"), verbs_from=1)),
            "its labels seem to count from 1: .* 100 % if verbs count from 1",
        ),
        (
            lambda folder: written(folder, upt("hico_det", pair_order("hico_det"), objects_from=1)),
            "its labels seem to count from 1: .* 100 % if objects count from 1",
        ),
        (
            lambda folder: written(folder, upt("hico_det", pair_order("hico_det"), objects_from=1, verbs_from=1)),
            "its labels seem to count from 1: .* 100 % if objects and verbs count from 1",
        ),
    ],
)
def test_what_looks_like_a_misunderstanding_is_said_on_the_terminal_and_in_the_report(
    tmp_path: Path, predictions: Callable[[Path], Path], sentence: str
) -> None:
    arguments = ["evaluate", "hico_det", "--predictions", str(predictions(tmp_path))]
    arguments += ["--annotations", str(scene_table(tmp_path, "hico_det")), "--report", str(tmp_path / "report")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.exception
    terminal = " ".join(result.output.split())
    page = " ".join((tmp_path / "report/evaluation.html").read_text().replace("&#39;", "'").split())
    for text in (terminal, page):
        assert re.search(f"Suspicious: {sentence}", text), text
        assert re.search("Suspicious: hico_det/rlipv2/plain.* nothing is right", text), text


def test_a_zero_with_the_right_boxes_points_to_the_classes(tmp_path: Path) -> None:
    """Boxes elsewhere point to the boxes."""
    records = qpic("v_coco", coco_order("v_coco"))
    for record in records:
        for pair in record["hoi_prediction"]:
            pair["category_id"] = 0 if pair["category_id"] else 1
    path = scene_table(tmp_path, "v_coco")
    signs = evaluate_files(Request("v_coco", written(tmp_path, records), path)).suspicions
    assert any(
        "4 predicted pairs lie on annotated ones, so look for another order of the classes" in sign for sign in signs
    )
    for record in records:
        for box in record["predictions"]:
            box["bbox"] = [600, 440, 639, 479]
    signs = evaluate_files(Request("v_coco", written(tmp_path, records), path)).suspicions
    assert any("No predicted pair lies on an annotated one" in sign for sign in signs)


def test_the_published_interactions_have_the_setting_of_unseen_verbs(tmp_path: Path) -> None:
    for annotated in (pair_list, scene_table):
        path = annotated(tmp_path, "hico_det")
        _, vocabulary = read_annotations(path)
        unseen = [vocabulary.hois[hoi] for hoi in vocabulary.unseen("uv")]
        assert len(unseen) == 84
        verbs = {verb for verb, _ in unseen}
        assert len(verbs) == 20
        assert {hoi for hoi in vocabulary.hois if hoi[0] in verbs} == set(unseen)
        found = evaluate_files(Request("hico_det", parquet(tmp_path, "hico_det"), path, unseen="uv"))
        assert found.results[0].figures["seen"] == pytest.approx(1)


def test_the_projects_own_scene_folder_finds_its_classes(tmp_path: Path) -> None:
    """In `data/scenes`, whole or one bucket of it; elsewhere the option is named."""
    scenes = scene_table(tmp_path / "data", "hico_det").rename(tmp_path / "data/own")
    (tmp_path / "data/scenes").mkdir()
    (tmp_path / "data/manifests/hico_det").mkdir(parents=True)
    (scenes / "classes.json").rename(tmp_path / "data/manifests/hico_det/classes.json")
    scenes = scenes.rename(tmp_path / "data/scenes/hico_det")
    truth, _ = read_annotations(scenes)
    assert list(truth.image_ids) == [name[:-4] for name in WORLDS["hico_det"]]
    bucket, _ = read_annotations(scenes / "bucket-1")
    assert bucket.image_ids == truth.image_ids[1::2]
    with pytest.raises(InputError, match=r"classes\.json does not exist; name .* \(--classes\)"):
        read_annotations(scenes.rename(tmp_path / "elsewhere"))
