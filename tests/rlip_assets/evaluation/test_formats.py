"""Predictions in published forms: the same figures as from arrays, and a clear sentence for what is broken."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlip_assets.datasets.scenes import Scene, write_scenes
from rlip_assets.datasets.sources.classes import hico_classes
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.evaluate_files import Predictions, Request, evaluate_files
from rlip_assets.evaluation.formats.annotations import read_annotations
from rlip_assets.evaluation.formats.predictions import ImagePredictions, PredictionWriter
from rlip_assets.storage.errors import DataError, InputError, ParameterError, RlipError

OBJECTS, VERBS, HOIS = ["person", "horse", "cup"], ["ride", "hold", "feed"], [[0, 1], [2, 1], [1, 2]]
VOCABULARY = Vocabulary("hico_det", tuple(OBJECTS), tuple(VERBS), tuple((v, o) for v, o in HOIS))
BOXES = [[5, 5, 45, 90], [40, 40, 120, 95], [130, 10, 150, 30]]
UPT: dict[str, Any] = {
    "boxes": BOXES,
    "pairing": [[0, 0, 0], [1, 2, 1]],
    "scores": [0.9, 0.5, 0.25],
    "labels": [0, 1, 2],
    "objects": [1, 2, 1],
}
QPIC: dict[str, Any] = {
    "predictions": [{"bbox": box, "category_id": label} for box, label in zip(BOXES, (0, 1, 2), strict=True)],
    "hoi_prediction": [
        {"subject_id": s, "object_id": o, "category_id": v, "score": p}
        for s, o, v, p in ((0, 1, 0, 0.9), (0, 2, 1, 0.5), (0, 1, 2, 0.25))
    ],
}


def written(folder: Path, content: Any, name: str = "predictions.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def listed(path: Path, vocabulary: Vocabulary = VOCABULARY, **options: Any) -> list[ImagePredictions]:
    """The images of a list in the classes of a vocabulary."""
    request = Request("hico_det", path, Path("annotations.json"), **options)
    return [image for batch in Predictions(request, vocabulary, ("image",)) for image in batch.images()]


def only_image(folder: Path, content: Any, **options: Any) -> ImagePredictions:
    (image,) = listed(written(folder, content), **options)
    return image


@pytest.mark.parametrize(
    "content",
    [
        {"image": UPT},
        {"image": {**UPT, "pairing": [[0, 1], [0, 2], [0, 1]]}},
        [{"image_id": "image", **UPT}],
        [{"filename": "image", **QPIC}],
    ],
    ids=["UPT", "PViC", "records", "QPIC"],
)
def test_lists_become_pairs_with_a_row_of_scores(tmp_path: Path, content: Any) -> None:
    image = only_image(tmp_path, content)
    assert image.image_id == "image"
    np.testing.assert_array_equal(image.sub_boxes, np.array(BOXES, np.float32)[[0, 0]])
    np.testing.assert_array_equal(image.obj_boxes, np.array(BOXES, np.float32)[[1, 2]])
    np.testing.assert_array_equal(image.obj_labels, [1, 2])
    np.testing.assert_array_equal(image.sub_labels, [0, 0])
    np.testing.assert_array_equal(image.scores, np.array([[0.9, 0, 0.25], [0, 0.5, 0]], np.float32))


def with_coco_ids(horse: int = 19) -> dict[str, Any]:
    """`QPIC` by COCO category ids (person 1, horse 19, cup 47) and HICO-DET's verb ids (ride 77, hold 37, feed 27)."""
    return {
        "predictions": [
            {**box, "category_id": number} for box, number in zip(QPIC["predictions"], (1, horse, 47), strict=True)
        ],
        "hoi_prediction": [
            {**row, "category_id": verb} for row, verb in zip(QPIC["hoi_prediction"], (77, 37, 27), strict=True)
        ],
    }


def test_coco_ids_become_labels_by_name(tmp_path: Path) -> None:
    image = only_image(tmp_path, {"image": with_coco_ids()}, coco_ids=True)
    expected = only_image(tmp_path, {"image": QPIC})
    for name in ("sub_labels", "obj_labels", "scores"):
        np.testing.assert_array_equal(getattr(image, name), getattr(expected, name))


def changed(record: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"image": {**record, **fields}}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            changed(UPT, scores=[0.9, math.nan, 0.25]),
            "row 0: image 'image': scores, entry 1 is nan; expected a finite number",
        ),
        (changed(UPT, scores=[0.9, math.inf, 0.25]), "'image': scores, entry 1 is inf"),
        (changed(UPT, scores=[0.9, None, 0.25]), "'image': scores, entry 1 is None"),
        (changed(UPT, scores=[0.9, 0.5, -0.25]), "'image', triplet 2: score -0.25"),
        (changed(UPT, scores=[0.9, 0.5, 0.25, 0.1]), "3 pairs, 4 scores"),
        (
            changed(UPT, boxes=[*BOXES[:2], [0, 0, math.nan, 1]]),
            r"'image': boxes, entry 2 is \[0, 0, nan, 1\]; expected four finite numbers",
        ),
        (changed(UPT, labels=[0, 1, 3]), "triplet 2: verb 3 is outside 0..2"),
        (changed(UPT, labels=[-1, 1, 2]), "triplet 0: verb -1 is outside"),
        (changed(UPT, objects=[1, 9, 1]), "triplet 1: object label 9 is outside"),
        (changed(UPT, pairing=[[0, 0, 0], [1, 2, 3]]), "triplet 2: box index 3 is outside 0..2"),
        (changed(UPT, labels=[0, 1, 0]), "triplet 2: verb 0 was listed before"),
        (changed(QPIC, predictions=QPIC["predictions"][:2]), "triplet 1: box index 2 is outside 0..1"),
        (
            changed(QPIC, hoi_prediction=[{"subject_id": 0}]),
            "'image': hoi_prediction 0: object_id is missing; expected a whole number",
        ),
        (changed(UPT, boxes=[box[:3] for box in [*BOXES, BOXES[0]]]), "boxes, entry 0 is .* four finite numbers"),
        (changed(UPT, labels=[0, 0.5, 2]), "labels, entry 1 is 0.5; expected a whole number"),
        (changed(UPT, labels=[0, "hold", 2]), "labels, entry 1 is 'hold'; expected a whole number"),
        (changed(UPT, labels=[0, True, 2]), "labels, entry 1 is True; expected a whole number"),
        (changed(UPT, pairing=[[0, 0, 0], [1, 2, 1], [0, 0, 0], [1, 1, 1]]), r"rows of \[3\] entries; it is \(2, M\)"),
        (
            changed(QPIC, predictions=[{"bbox": [0, math.nan, 9, 9], "category_id": 0}, *QPIC["predictions"][1:]]),
            "predictions 0: bbox is",
        ),
        (changed(QPIC, predictions=[{"bbox": BOXES[0][:3], "category_id": 0}, *QPIC["predictions"][1:]]), "0: bbox is"),
        ([{"image_id": "a", **UPT}, {"image_id": "a", **UPT}], "row 1: image 'a' occurs twice"),
        ([UPT], "row 0 is .* names no image"),
        ({"image": {"boxes": BOXES}}, "is no list of human-object predictions"),
        ([], "is no list of human-object predictions"),
        ({"a": UPT, "b": {**UPT, "pairing": [[0, 1], [0, 2], [0, 1]]}}, r"some pairings are \(2, M\)"),
        (
            {"a": {**UPT, "pairing": [[0, 0], [1, 2]], "scores": [1, 1], "labels": [0, 1], "objects": [1, 2]}},
            "cannot be told apart",
        ),
    ],
)
def test_broken_lists_are_refused_by_name(tmp_path: Path, content: Any, sentence: str) -> None:
    with pytest.raises(RlipError, match=sentence) as caught:
        listed(written(tmp_path, content))
    assert "predictions.json" in str(caught.value)


def test_an_image_that_a_json_object_names_twice_is_no_silent_loss(tmp_path: Path) -> None:
    """JSON readers keep the last of two equal keys."""
    path = tmp_path / "predictions.json"
    path.write_text(f'{{"image": {json.dumps(UPT)}, "image": {json.dumps(UPT)}}}')
    with pytest.raises(InputError, match=r"predictions\.json .*the key 'image' occurs twice"):
        listed(path)


def test_unknown_coco_ids_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"triplet 0: object label 12 is outside .* COCO's category ids"):
        only_image(tmp_path, {"image": with_coco_ids(horse=12)}, coco_ids=True)


def test_a_truncated_list_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, {"image": UPT})
    path.write_text(path.read_text()[:-20])
    with pytest.raises(InputError, match="not valid JSON"):
        listed(path)


def annotated(folder: Path) -> Path:
    """A scene table of one image: ride horse, hold cup."""
    scene = Scene(
        image_id="image",
        dataset="hico_det",
        split="test",
        file_name="1.jpg",
        width=200,
        height=100,
        boxes=np.array(BOXES, np.float32),
        labels=tuple(OBJECTS),
        subject=np.array([0, 0], np.int32),
        object=np.array([1, 2], np.int32),
        relation=("ride", "hold"),
        confidence=np.full(2, np.nan, np.float32),
    )
    write_scenes(folder / "scenes", [scene])
    classes = {"dataset": "hico_det", "objects": OBJECTS, "relations": VERBS, "hois": HOIS}
    (folder / "classes.json").write_text(json.dumps(classes))
    return folder / "scenes"


def figures_of(request: Request) -> dict[str, float]:
    results = evaluate_files(request).results
    return {f"{result.name}/{name}": value for result in results for name, value in result.figures.items()}


def test_what_a_list_does_not_name_was_not_detected(tmp_path: Path) -> None:
    """The boxes of both relations are there, but only one is named: as a matrix the other would be found with score 0."""
    scenes = annotated(tmp_path)
    half = {
        **UPT,
        "pairing": [[0, 0, 0], [1, 2, 1]],
        "labels": [0, 1, 2],
        "scores": [0.9, 0, 0.25],
    }
    listed = figures_of(Request("hico_det", written(tmp_path, {"image": half}), scenes))
    assert {name: listed[f"hico_det/{name}/max_recall"] for name in ("rlipv2/nms", "rlipv2/plain")} == {
        "rlipv2/nms": 0.5,
        "rlipv2/plain": 0.5,
    }
    assert listed["hico_det/matlab/plain/full"] == pytest.approx(1 / 3)
    with PredictionWriter(tmp_path / "p.parquet", "hico_det", OBJECTS, VERBS, {}) as out:
        out.write(only_image(tmp_path, {"image": half}))
    dense = figures_of(Request("hico_det", tmp_path / "p.parquet", scenes))
    assert dense["hico_det/rlipv2/nms/max_recall"] == 1


def test_image_labels_add_the_known_object_setting(tmp_path: Path) -> None:
    """An image that is labelled with every interaction is judged as before; one with none finds nothing."""
    scenes, predictions = annotated(tmp_path), written(tmp_path, {"image": UPT})
    labels = tmp_path / "labels.json"
    default = figures_of(Request("hico_det", predictions, scenes))
    assert not any("known_object" in name for name in default)
    labels.write_text(json.dumps({"image": list(range(len(HOIS)))}))
    everything = figures_of(Request("hico_det", predictions, scenes, image_labels=labels))
    for name, value in default.items():
        protocol, _, rest = name.removeprefix("hico_det/").partition("/")
        assert everything[f"hico_det/{protocol}_known_object/{rest}"] == pytest.approx(value, nan_ok=True), name
    labels.write_text(json.dumps({"image": []}))
    nothing = figures_of(Request("hico_det", predictions, scenes, image_labels=labels))
    assert nothing["hico_det/rlipv2_known_object/plain/max_recall"] == 0
    assert nothing["hico_det/rlipv2/plain/max_recall"] == default["hico_det/rlipv2/plain/max_recall"] > 0
    labels.write_text(json.dumps({"another": [0]}))
    with pytest.raises(DataError, match=r"labels\.json lacks image 'image'"):
        evaluate_files(Request("hico_det", predictions, scenes, image_labels=labels))


def test_a_file_of_other_classes_is_refused(tmp_path: Path) -> None:
    scenes = annotated(tmp_path)
    with PredictionWriter(tmp_path / "p.parquet", "hico_det", OBJECTS, [*VERBS[:2], "lead"], {}) as out:
        out.write(only_image(tmp_path, {"image": UPT}))
    with pytest.raises(DataError, match="predicted with other classes"):
        evaluate_files(Request("hico_det", tmp_path / "p.parquet", scenes))
    with PredictionWriter(tmp_path / "other.parquet", "v_coco", OBJECTS, VERBS, {}) as out:
        out.write(only_image(tmp_path, {"image": UPT}))
    with pytest.raises(DataError, match=r"other\.parquet holds predictions for v_coco, not for hico_det"):
        evaluate_files(Request("hico_det", tmp_path / "other.parquet", scenes))
    with pytest.raises(ParameterError, match="annotates hico_det, not v_coco"):
        evaluate_files(Request("v_coco", tmp_path / "p.parquet", scenes))
    with pytest.raises(InputError, match="does not exist"):
        evaluate_files(Request("hico_det", tmp_path / "absent.parquet", scenes))


@pytest.mark.parametrize("form", ["json", "parquet"])
def test_an_unknown_image_is_named_with_file_and_row(tmp_path: Path, form: str) -> None:
    scenes = annotated(tmp_path)
    path = written(tmp_path, {"image": UPT, "elsewhere": UPT})
    if form == "parquet":
        images = listed(path)
        path = tmp_path / "predictions.parquet"
        with PredictionWriter(path, "hico_det", OBJECTS, VERBS, {}) as out:
            for image in images:
                out.write(image)
    with pytest.raises(DataError, match=rf"predictions\.{form}, row 1: image 'elsewhere' is not in the annotations"):
        evaluate_files(Request("hico_det", path, scenes))


PAIR_LIST: dict[str, Any] = {
    "filenames": ["1.jpg", "2.jpg"],
    "size": [[200, 100], [200, 100]],
    "annotation": [{"boxes_h": BOXES[:1], "boxes_o": BOXES[1:2], "object": [1], "verb": [0]} for _ in range(2)],
    "objects": OBJECTS,
    "verbs": VERBS,
    "correspondence": [[i, o, v] for i, (v, o) in enumerate(HOIS)],
    "rare": [],
}


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"verb": [3]}, "image '2.jpg': verb 3 is outside 0..2"),
        ({"object": [3]}, "image '2.jpg': object label 3 is outside 0..2"),
        ({"verb": [0.5]}, "image '2.jpg': verb, entry 0 is 0.5; expected a whole number"),
        ({"verb": [0, 1]}, "image '2.jpg': 1 boxes_h, 1 boxes_o, 1 object, 2 verb"),
        ({"boxes_h": [BOXES[0][:3]]}, "image '2.jpg': boxes_h, entry 0 is .* four finite numbers"),
        ({"boxes_o": [[0, 0, math.inf, 9]]}, r"image '2.jpg': boxes_o, entry 0 is \[0, 0, inf, 9\]"),
    ],
)
def test_broken_annotations_are_refused_by_file_and_image(tmp_path: Path, row: dict[str, Any], sentence: str) -> None:
    first, second = PAIR_LIST["annotation"]
    content = {**PAIR_LIST, "annotation": [first, {**second, **row}]}
    request = Request("hico_det", written(tmp_path, {"1.jpg": UPT}), written(tmp_path, content, "annotations.json"))
    with pytest.raises(DataError, match=rf"annotations\.json: {sentence}"):
        evaluate_files(request)
    twice = {**PAIR_LIST, "filenames": ["1.jpg", "1.jpg"]}
    with pytest.raises(DataError, match=r"annotations\.json: image '1.jpg' is listed twice"):
        evaluate_files(Request("hico_det", request.predictions, written(tmp_path, twice, "annotations.json")))


def test_the_official_interactions_bring_their_zero_shot_settings(tmp_path: Path) -> None:
    """In a pair list the interactions may be numbered otherwise; other interactions have none."""
    official = hico_classes()
    assert official.hois is not None
    order = np.random.default_rng(1).permutation(600)
    content = {
        **PAIR_LIST,
        "objects": official.objects,
        "verbs": official.relations,
        "correspondence": [[i, official.hois[old][1], official.hois[old][0]] for i, old in enumerate(order.tolist())],
        "annotation": [{"boxes_h": [], "boxes_o": [], "object": [], "verb": []}] * 2,
    }
    _, vocabulary = read_annotations(written(tmp_path, content))
    assert {name: len(ids) for name, ids in vocabulary.splits.items()} == {
        "uc_rf": 120,
        "uc_nf": 120,
        "uo": 100,
        "uv": 84,
        **{f"uc{number}": 120 for number in range(5)},
    }
    assert {official.hois[i] for i in official.splits["uc_rf"]} == {
        vocabulary.hois[i] for i in vocabulary.splits["uc_rf"]
    }
    _, other = read_annotations(written(tmp_path, PAIR_LIST))
    assert other.splits == {}
