"""Boxes for own labels come from training images and a detector; nothing of the annotation is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor

from rlip_assets.datasets.scenes import read_scenes
from rlip_assets.datasets.sources.manifests import Manifest, read_manifest, write_manifest
from rlip_assets.doctor.foreign_inputs import foreign_inputs
from rlip_assets.labelling import detections
from rlip_assets.labelling.box_detectors import OwnDetector, TransformersDetector
from rlip_assets.labelling.detections import FoundBoxes, detection_stage
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.recipes import Augmentation
from rlip_assets.lineage.registry import build_registry
from rlip_assets.storage.errors import DataError, InputError, ParameterError
from rlip_assets.storage.files import write_json
from rlip_assets.storage.quarantine import read_quarantine
from rlip_model import DabDeformableDetr, ModelConfig, save_detector
from tests.support.label_factory import draw_bucket, write_raw_manifest

OWN = {"training": {"finetune": {"own": {"recipe": "micro_hico_1", "changes": {"own_labels": "hico_det"}}}}}
PHOTO = Image.effect_noise((64, 48), 80).convert("RGB")


def found(images: Sequence[Image.Image]) -> list[FoundBoxes]:
    """A man, the same man again, a poodle that leaves the image, an unsure dog, a thing without area and one of no class."""
    boxes = [(1, 1, 11, 21), (2, 1, 11, 21), (20, 10, 900, 30), (5, 5, 20, 20), (8, 8, 8, 9), (0, 0, 9, 9)]
    names = ["Man", "Person", "puppy", "dog", "bench", "carpet"]
    scores = [0.9, 0.8, 0.7, 0.3, 0.9, 0.95]
    return [FoundBoxes(np.array(boxes, np.float32), names, np.array(scores, np.float32)) for _ in images]


@dataclass
class Stub:
    """A detector that finds the same in every image, and the names of all of its classes."""

    names: Sequence[str] = ("Man", "Person", "puppy", "dog", "bench", "carpet")
    find: Callable[[Sequence[Image.Image]], list[FoundBoxes]] = found

    def __call__(self, images: Sequence[Image.Image]) -> list[FoundBoxes]:
        return self.find(images)


@pytest.fixture
def bucket(tmp_path: Path) -> StageContext:
    scenes = draw_bucket(tmp_path / "raw", 7, bad=(3,))
    scenes = [replace(scene, split="test" if number == 5 else "train") for number, scene in enumerate(scenes)]
    write_json(tmp_path / "classes.json", {"dataset": "hico_det", "objects": ["person", "dog", "bench"]})
    params = Params.model_validate(
        {
            "sources": {"hico_det": {"root": str(tmp_path / "raw")}, "visual_genome": None, "coco": None, "objects365": None,
                        "v_coco": None, "open_images": None},
            "detections": {"rows_per_shard": 2, "batch_size": 2, "quarantine_limit": 0.3},
            "training": {"device": "cpu", "pretrain": {}, "finetune": {}},
        }
    )  # fmt: skip
    inputs = {"classes": tmp_path / "classes.json", "detection_model": tmp_path / "raw"}
    inputs["manifest"] = write_raw_manifest(tmp_path, tmp_path / "raw", scenes)
    outputs, work = {"detections": tmp_path / "out"}, tmp_path / "work/detections/digest"
    for folder in (tmp_path / "out", work):
        folder.mkdir(parents=True)
    from tests.support.label_factory import Log

    return StageContext("detections", "hico_det-0", params, inputs, outputs, work, Log())


def test_training_images_get_boxes_in_the_words_of_the_benchmark(
    bucket: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detections, "open_detector", lambda *_: Stub())
    figures = detection_stage(bucket)
    scenes = list(read_scenes(bucket.outputs["detections"]))
    assert [scene.image_id for scene in scenes] == ["0", "1", "2", "4", "6"]
    assert {(scene.split, scene.labels, scene.relation) for scene in scenes} == {("train", ("person", "dog"), ())}
    assert scenes[0].boxes.tolist() == [[1, 1, 11, 21], [20, 10, 40, 30]]
    assert [entry.image_id for entry in read_quarantine(bucket.outputs["detections"])] == ["3"]
    assert figures == {"input": 6, "images": 5, "boxes": 10, "boxes_of_no_class": {"carpet": 5}, "quarantined": 1}

    def never(*_: object) -> None:
        raise AssertionError("finished shards are found again")

    monkeypatch.setattr(detections, "open_detector", never)
    assert detection_stage(bucket) == figures
    strict = bucket.params.detections.model_copy(update={"quarantine_limit": 0.1})
    with pytest.raises(DataError):
        detection_stage(replace(bucket, params=bucket.params.model_copy(update={"detections": strict})))


@pytest.mark.parametrize(
    ("model", "place"),
    [("team/detr", r"id2label of team/detr/config\.json"), (None, r"classes of .*raw/metadata\.json")],
)
def test_a_detector_none_of_whose_classes_is_one_of_the_benchmark_is_refused(
    bucket: StageContext, monkeypatch: pytest.MonkeyPatch, model: str | None, place: str
) -> None:
    """Before any image is looked at."""
    monkeypatch.setattr(
        detections, "open_detector", lambda *_: Stub([f"LABEL_{number}" for number in range(91)], never)
    )
    settings = bucket.params.detections.model_copy(update={"model": model})
    inputs = {name: path for name, path in bucket.inputs.items() if name != "detection_model" or not model}
    ctx = replace(bucket, params=bucket.params.model_copy(update={"detections": settings}), inputs=inputs)
    with pytest.raises(
        InputError,
        match=rf"none of the detector's 91 classes is one of hico_det \(LABEL_0, LABEL_1, LABEL_2, \.\.\.\); .* into {place}",
    ):
        detection_stage(ctx)


def never(images: Sequence[Image.Image]) -> list[FoundBoxes]:
    raise AssertionError("a detector of no use runs")


def test_images_may_show_nothing_of_the_benchmark(bucket: StageContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket of few images, whose boxes are all of other classes of a detector that knows the benchmark's."""

    def carpets(images: Sequence[Image.Image]) -> list[FoundBoxes]:
        return [replace(each, names=["carpet"] * 6) for each in found(images)]

    monkeypatch.setattr(detections, "open_detector", lambda *_: Stub(find=carpets))
    figures = detection_stage(bucket)
    assert (figures["images"], figures["boxes"], figures["boxes_of_no_class"]) == (5, 0, {"carpet": 25})


def test_rows_follow_from_everything_that_the_manifest_says(
    bucket: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids are in the rows, so another id is another shard; a file that was missing when it was listed is not read unchecked."""
    monkeypatch.setattr(detections, "open_detector", lambda *_: Stub())
    images = [image for image in read_manifest(bucket.inputs["manifest"]).images if image.image_id not in ("3", "5")]
    first, *rest = images
    for changed in (images, [replace(first, image_id="x"), *rest], [replace(first, sha256=None), *rest]):
        write_manifest(bucket.inputs["manifest"], Manifest("hico_det", 0, 1, tuple(changed), ()))
        detection_stage(bucket)
        ids = sorted(scene.image_id for scene in read_scenes(bucket.outputs["detections"]))
        left_out = {entry.image_id: entry.reason for entry in read_quarantine(bucket.outputs["detections"])}
        assert sorted([*ids, *left_out]) == sorted(image.image_id for image in changed)
    assert list(left_out) == ["0"]
    assert "missing when its manifest was made" in left_out["0"]


def test_the_projects_detector_needs_class_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = DabDeformableDetr(ModelConfig.preset("micro_detector"), 3)
    sizes = Augmentation(test_short_side=48, longest=96)
    save_detector(tmp_path / "named", model, {"classes": ["person", "dog", "bench"]})
    detector = OwnDetector.open(tmp_path / "named", sizes, "cpu")
    one, two = detector([PHOTO, PHOTO.crop((0, 0, 30, 40))])
    assert len(one.names) == len(one.boxes) == len(one.scores) > 0
    assert set(one.names) <= {"person", "dog", "bench"}
    assert two.boxes.shape[1] == 4
    for classes in ([], ["person", "dog"], [1, 2, 3]):
        save_detector(tmp_path / "unnamed", model, {"classes": classes})
        with pytest.raises(InputError, match=r"does not name the 3 classes.*detections\.model"):
            OwnDetector.open(tmp_path / "unnamed", sizes, "cpu")
    (tmp_path / "named/config.json").unlink()
    with pytest.raises(InputError, match=r"has no config\.json.*detections\.model"):
        OwnDetector.open(tmp_path / "named", sizes, "cpu")


def test_a_detection_model_of_transformers_finds_boxes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = YolosConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=[32, 48], patch_size=16,
        num_detection_tokens=5, id2label={0: "person", 1: "dog"}, label2id={"person": 0, "dog": 1},
    )  # fmt: skip
    YolosForObjectDetection(config).save_pretrained(tmp_path / "yolos")
    YolosImageProcessor(size={"height": 32, "width": 48}).save_pretrained(tmp_path / "yolos")
    (boxes,) = TransformersDetector.open(str(tmp_path / "yolos"), 0.0, "cpu")([PHOTO])
    assert 0 < len(boxes.names) <= 5
    assert set(boxes.names) <= {"person", "dog"}
    assert boxes.boxes.dtype == np.float32
    detector = TransformersDetector.open(str(tmp_path / "yolos"), 0.0, "cpu")
    assert detector.names == ["person", "dog"]
    detector.model.config.id2label = {7: "person"}
    assert set(detector([PHOTO])[0].names) <= {"0", "1"}
    with pytest.raises(InputError, match="is no object detection model"):
        TransformersDetector.open(str(tmp_path / "nothing"), 0.0, "cpu")


def test_a_recipe_with_own_labels_adds_the_stages_and_no_other_has_them() -> None:
    plain, own = build_registry(Params()), build_registry(Params.model_validate(OWN))
    assert not any(
        "hico_det" in item.address for item in plain.items() if item.stage != "raw_manifest" and item.stage != "scenes"
    )
    boxes = own.at("detections@hico_det-0")
    assert set(boxes.inputs) == {"manifest", "classes", "detection_model"}
    for stage in ("captions", "candidates", "pseudo_labels"):
        assert own.at(f"{stage}@hico_det-0").inputs["scenes"] == "data/detections/hico_det/bucket-0"
        assert own.at(f"{stage}@coco-0") == plain.at(f"{stage}@coco-0")
    assert own.at("finetune@own").inputs["pseudo_labels/hico_det"] == "data/pseudo_labels/hico_det"
    # No stage of the chain depends on a scene table of HICO-DET.
    assert not {"scenes@hico_det-0"} & set(_above(own, "pseudo_labels@hico_det-0"))


@pytest.mark.parametrize(
    ("model", "path", "key"),
    [
        (None, "rlip_assets/micro_world/starting_weights/weights/detector", "external.detector"),
        ("./detr", "detr", "detections.model"),
        ("team/detr", "team/detr", "detections.model"),
    ],
)
def test_the_doctor_knows_where_the_detector_comes_from(model: str | None, path: str, key: str) -> None:
    params = Params.model_validate({**OWN, "detections": {"model": model}})
    (found,) = (given for given in foreign_inputs(params, build_registry(params)) if given.role == "detection_model")
    assert (found.path, found.key(params), found.needed_by) == (path, key, "detections@hico_det-0")


def _above(registry, address: str) -> set[str]:  # type: ignore[no-untyped-def]
    found: set[str] = set()
    waiting = [address]
    while waiting:
        parents = set(registry.parents[waiting.pop()]) - found
        found |= parents
        waiting += parents
    return found


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"own_labels": "hico_det", "benchmark": "v_coco", "sources": {"v_coco": 1.0}},
            "needs a fine-tuning on that benchmark",
        ),
        ({"own_images": 2.0}, "own_images needs own_labels"),
        ({"merge": [0.5, 1.5]}, "less than or equal to 1"),
        ({"merge": [0.5, 1.0], "holdout": 0.0}, "set holdout"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, object], sentence: str) -> None:
    from rlip_assets.lineage.recipe_files import recipe

    with pytest.raises(ParameterError, match=sentence):
        recipe("micro_hico_full", changes)


def test_a_profile_of_real_data_names_its_detection_model() -> None:
    weights = {name: f"/w/{name}" for name in ("detector", "text_encoder", "captioner", "r_tagger")}
    sources = {
        "hico_det": {"root": "/hico"},
        **dict.fromkeys(("visual_genome", "coco", "objects365", "v_coco", "open_images")),
    }
    training = {**OWN["training"], "pretrain": {}, "start": "/w/start"}
    content = {"sources": sources, "external": weights, "training": training}
    with pytest.raises(ValueError, match=r"detections\.model: null.*object detection model of hico_det"):
        Params.model_validate(content)
    Params.model_validate({**content, "detections": {"model": "facebook/detr-resnet-50"}})


def test_captions_of_the_truth_know_no_benchmark() -> None:
    with pytest.raises(ValueError, match=r"oracle\.captions knows no truth of benchmarks"):
        Params.model_validate({**OWN, "oracle": {"captions": True}})
