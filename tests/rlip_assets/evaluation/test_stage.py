"""The benchmark stage on a perfect detector, and on one that is wrong in a known way."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from rlip_assets.cli.application import app
from rlip_assets.datasets.scenes import Scene, write_scenes
from rlip_assets.evaluation.core.ground_truth import AnnotatedImage, ground_truth_of
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.errors_by_cause import CauseCounter
from rlip_assets.evaluation.formats.predictions import ImagePredictions, PredictionBatch, PredictionWriter
from rlip_assets.evaluation.hico_det.evaluator import zero_shot_groups
from rlip_assets.evaluation.stage import benchmark_stage
from rlip_assets.lineage.context import NullLog, StageContext
from rlip_assets.lineage.params import Params
from rlip_assets.report.runs import ROWS, Row
from rlip_assets.storage.errors import DataError, InputError

OBJECTS = ["person", "horse", "cup"]
CLASSES: dict[str, dict[str, Any]] = {
    "hico_det": {
        "relations": ["ride", "hold"],
        "hois": [[0, 1], [1, 2]],
        "rare": [1],
        "splits": {"uc_rf": [1], "uc_nf": [0]},
        "groups": {"visual_genome": {"ride": "exact", "hold": "absent"}},
    },
    "v_coco": {
        "relations": ["ride", "hold"],
        "hois": [],
        "rare": [],
        "splits": {},
        "groups": {"actions": ["ride_obj", "hold_obj"]},
    },
    "open_images": {"relations": ["ride", "hold"], "hois": [], "rare": [], "splits": {}, "groups": {}},
}
SCENES = [
    Scene(
        image_id=f"image {i}",
        dataset="any",
        split="test",
        file_name=f"{i}.jpg",
        width=200,
        height=100,
        boxes=np.array([[5, 5, 45, 90], [40, 40, 120, 95], [130, 10, 150, 30]], np.float32),
        labels=("person", "horse", "cup"),
        subject=np.array([0, 0], np.int32),
        object=np.array([1, 2], np.int32),
        relation=("ride", "hold"),
        confidence=np.full(2, np.nan, np.float32),
    )
    for i in range(4)
]


def perfect(scene: Scene) -> ImagePredictions:
    """One pair a triplet, sure of its verb."""
    labels = np.array([OBJECTS.index(name) for name in scene.labels], np.int32)
    scores = np.full((len(scene.relation), 2), 0.01, np.float32)
    scores[np.arange(2), [("ride", "hold").index(name) for name in scene.relation]] = 0.9
    return ImagePredictions(
        scene.image_id,
        scene.boxes[scene.subject],
        scene.boxes[scene.object],
        labels[scene.subject],
        labels[scene.object],
        scores,
    )


def judged(
    folder: Path,
    dataset: str,
    partition: str,
    change: Callable[[ImagePredictions], ImagePredictions] = lambda p: p,
    with_images: bool = True,
) -> tuple[dict, Path]:
    content = {"dataset": dataset, "objects": OBJECTS, **CLASSES[dataset]}
    folder.mkdir(exist_ok=True)
    (folder / "classes.json").write_text(json.dumps(content))
    write_scenes(folder / "scenes" / "bucket-0", SCENES)
    (folder / "predictions").mkdir()
    with PredictionWriter(
        folder / "predictions" / f"{dataset}.parquet", dataset, OBJECTS, content["relations"], {}
    ) as out:
        for scene in SCENES:
            out.write(change(perfect(scene)))
    images = folder / "data/raw" / dataset
    for scene in SCENES[1:] if with_images else ():
        images.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (scene.width, scene.height), "gray").save(images / scene.file_name)
    (folder / "out").mkdir()
    inputs = {name: folder / name for name in ("scenes", "predictions")} | {"classes": folder / "classes.json"}
    ctx = StageContext(
        "benchmark",
        partition,
        Params(),
        inputs,
        {"benchmark": folder / "out"},
        folder / "work/benchmark/digest",
        NullLog(),
    )
    return benchmark_stage(ctx), folder / "out"


@pytest.mark.parametrize(
    ("dataset", "partition", "names"),
    [
        ("hico_det", "finetune-hico_uc_rf", ["hico_det/rlipv2/nms/unseen", "hico_det/matlab/plain/full"]),
        ("hico_det", "pretrain-vg", ["hico_det/rlipv2/nms/verbs_exact", "hico_det/rlipv2/nms/verbs_absent"]),
        ("v_coco", "finetune-v_coco", ["v_coco/official/role_ap_s1_24", "v_coco/official/agent_ap"]),
        ("open_images", "finetune-open_images", ["open_images/oi_triplet/nms/score_wtd", "open_images/oi_predicate/recall_50"]),
    ],
)  # fmt: skip
def test_a_perfect_detector_scores_one(tmp_path: Path, dataset: str, partition: str, names: list[str]) -> None:
    figures, out = judged(tmp_path / "work", dataset, partition)
    metrics = json.loads((out / "metrics.json").read_text())
    assert {name: metrics[name] for name in names} == {name: pytest.approx(1) for name in names}
    assert json.loads((out / "errors.json").read_text())["shares"]["right"] == 1
    classes = pq.read_table(out / "per_class.parquet").to_pylist()
    assert {row["recall"] for row in classes if row["protocol"].endswith("rlipv2/nms")} <= {1.0}
    assert figures["images"] == len(SCENES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.run)
def test_the_report_finds_its_figures_by_name(tmp_path: Path, row: Row) -> None:
    dataset = next(iter(row.columns.values())).partition("/")[0]
    _, out = judged(tmp_path / "work", dataset, row.run)
    metrics = json.loads((out / "metrics.json").read_text())
    found = {name: metrics.get(name) for name in row.columns.values()}
    assert found == {name: pytest.approx(1) for name in found}


def swapped_verbs(image: ImagePredictions) -> ImagePredictions:
    return replace(image, scores=image.scores[:, ::-1].copy())


def other_object(image: ImagePredictions) -> ImagePredictions:
    return replace(image, obj_labels=image.obj_labels[::-1].copy())


def shifted_box(image: ImagePredictions) -> ImagePredictions:
    return replace(image, obj_boxes=image.obj_boxes + np.array([12, 0, 12, 0], np.float32))


def doubled(image: ImagePredictions) -> ImagePredictions:
    """The first triplet twice, the second below it."""
    rows = [0, 0, 1]
    scores = image.scores[rows]
    scores[2] /= 2
    pairs = {name: getattr(image, name)[rows] for name in ("sub_boxes", "obj_boxes", "sub_labels", "obj_labels")}
    return replace(image, **pairs, scores=scores)


@pytest.mark.parametrize(
    ("change", "cause", "share"),
    [
        (swapped_verbs, "verb", 1.0),
        (other_object, "object", 1.0),
        (shifted_box, "box", 0.5),
        (doubled, "duplicate", 0.5),
    ],
)
def test_errors_have_their_cause(tmp_path: Path, change: Callable, cause: str, share: float) -> None:
    _, out = judged(tmp_path / "work", "open_images", "finetune-open_images", change)
    assert json.loads((out / "errors.json").read_text())["shares"][cause] == pytest.approx(share)


def test_the_worst_classes_are_drawn_on_images_that_annotate_them(tmp_path: Path) -> None:
    """Image 0 has no file, so the next one is drawn."""
    figures, out = judged(tmp_path / "work", "hico_det", "finetune-hico_full", other_object)
    captions = json.loads((out / "worst.json").read_text())
    assert figures["headline"] == 0
    assert set(captions) == {"worst_1_ride_horse.png", "worst_2_hold_cup.png"}
    assert captions["worst_2_hold_cup.png"] == "hold cup: AP 0.0. Annotated: person ride horse, person hold cup"
    assert all(Image.open(out / name).width > 200 for name in captions)


def test_figures_need_no_images(tmp_path: Path) -> None:
    figures, out = judged(tmp_path / "work", "v_coco", "finetune-v_coco", with_images=False)
    assert figures["headline"] == pytest.approx(1)
    assert json.loads((out / "worst.json").read_text()) == {}


def test_an_unknown_image_is_named(tmp_path: Path) -> None:
    def elsewhere(image: ImagePredictions) -> ImagePredictions:
        return replace(image, image_id=image.image_id.replace("image 3", "elsewhere"))

    with pytest.raises(DataError, match="image 'elsewhere' is not in the annotations"):
        judged(tmp_path / "work", "v_coco", "finetune-v_coco", elsewhere)


def test_a_dataset_that_is_no_benchmark_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLASSES, "coco", CLASSES["open_images"])
    with pytest.raises(DataError, match="'coco' is no benchmark"):
        judged(tmp_path / "work", "coco", "pretrain-vg")


def test_missing_classes_are_named(tmp_path: Path) -> None:
    inputs = {name: tmp_path / name for name in ("scenes", "predictions", "classes")}
    ctx = StageContext("benchmark", "pretrain-vg", Params(), inputs, {}, tmp_path, NullLog())
    with pytest.raises(InputError, match="does not exist"):
        benchmark_stage(ctx)


def test_the_command_prints_every_protocol_by_name(tmp_path: Path) -> None:
    judged(tmp_path / "work", "open_images", "finetune-open_images")
    folder = tmp_path / "work"
    arguments = ["evaluate", "open_images", "--predictions", str(folder / "predictions/open_images.parquet")]
    arguments += ["--annotations", str(folder / "scenes/bucket-0"), "--classes", str(folder / "classes.json")]
    result = CliRunner().invoke(app, [*arguments, "--per-class", str(folder / "classes.parquet")])
    assert result.exit_code == 0, result.output
    for name in ("open_images/oi_triplet", "open_images/oi_triplet_compat", "open_images/oi_predicate"):
        assert f"\n{name}: " in result.output
    assert pq.read_table(folder / "classes.parquet").num_rows > 0
    other = CliRunner().invoke(app, ["evaluate", "hico_det", *arguments[2:]])
    assert "annotates open_images, not hico_det" in str(other.exception)


@pytest.mark.parametrize(
    ("dataset", "published", "ours"),
    [
        ("hico_det", "HICO-DET, fully fine-tuned (hico_det/rlipv2/nms)", "0.00"),
        ("v_coco", "V-COCO (v_coco/official)", "100.00"),
        ("open_images", "Open Images v6, triplet classes (open_images/oi_triplet_compat/nms)", "50.00"),
    ],
)
def test_the_command_writes_a_report(tmp_path: Path, dataset: str, published: str, ours: str) -> None:
    """HICO-DET with wrong objects, V-COCO perfect, Open Images with one of two boxes shifted."""
    change = {"hico_det": other_object, "v_coco": lambda image: image, "open_images": shifted_box}[dataset]
    partition = f"finetune-{'hico_full' if dataset == 'hico_det' else dataset}"
    judged(tmp_path / "work", dataset, partition, change)
    folder = tmp_path / "work"
    arguments = ["evaluate", dataset, "--predictions", str(folder / f"predictions/{dataset}.parquet")]
    arguments += ["--annotations", str(folder / "scenes/bucket-0"), "--classes", str(folder / "classes.json")]
    arguments += ["--report", str(folder / "report"), "--images", str(folder / "data/raw" / dataset)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    page = (folder / "report/evaluation.html").read_text()
    assert f"<th>{published}</th>" in page
    row = page[page.index(f"this run ({dataset}.parquet)") :]
    assert f"<td>{ours}</td>" in row[: row.index("</tr>")]
    shares = json.loads((folder / "report/errors.json").read_text())["shares"]
    assert shares == json.loads((folder / "out/errors.json").read_text())["shares"]
    for name in ("per_class.parquet", "per_class.csv", "curves.parquet", "precision_recall.png", "errors_by_cause.png"):
        assert (folder / "report" / name).stat().st_size > 0
        assert name.endswith((".csv", ".parquet")) or f'src="{name}"' in page
    drawn = [file.name for file in (folder / "report").glob("worst_*.png")]
    assert len(drawn) == 2
    assert all(f'src="{name}"' in page for name in drawn)


def test_settings_that_were_not_computed_are_said(tmp_path: Path) -> None:
    judged(tmp_path / "work", "hico_det", "finetune-hico_full")
    folder = tmp_path / "work"
    arguments = ["evaluate", "hico_det", "--predictions", str(folder / "predictions/hico_det.parquet")]
    arguments += ["--annotations", str(folder / "scenes/bucket-0"), "--classes", str(folder / "classes.json")]
    result = CliRunner().invoke(app, arguments)
    assert "Left out: the Known-Object setting" in result.output
    assert "UV" not in result.output
    assert "plain      nms" in result.output
    (folder / "labels.json").write_text(json.dumps({scene.image_id: [0, 1] for scene in SCENES}))
    result = CliRunner().invoke(app, [*arguments, "--image-labels", str(folder / "labels.json")])
    assert "Known-Object" not in result.output
    assert "hico_det/rlipv2_known_object:" in result.output
    refused = CliRunner().invoke(app, [*arguments, "--unseen", "uv"])
    assert "hico_det classes have no zero-shot setting 'uv' (they have: uc_nf, uc_rf)" in str(refused.exception)


def test_unseen_interactions_may_be_listed() -> None:
    """As a recipe has them, or as JSON gives them back."""
    vocabulary = Vocabulary("hico_det", tuple(OBJECTS), ("ride", "hold"), ((0, 1), (1, 2)))
    for listed in ((("hold", OBJECTS[2]),), [["hold", OBJECTS[2]]]):
        groups = zero_shot_groups(vocabulary, listed)
        assert groups["unseen"].tolist() == [2 * 2 + 1]
        assert groups["seen"].tolist() == [1 * 2]
    with pytest.raises(DataError, match=r"no interaction \('hold', 'car'\); correct the recipe's unseen"):
        zero_shot_groups(vocabulary, [["hold", "car"]])


def test_triplets_that_a_list_does_not_name_are_no_errors() -> None:
    """Two relations are annotated, a list names one of them: one triplet is looked at."""
    vocabulary = Vocabulary("hico_det", tuple(OBJECTS), ("ride", "hold"), ((0, 1), (1, 2)))
    truth = ground_truth_of([AnnotatedImage("a", (200, 100), SCENES[0].boxes, [0, 1, 2], [(0, 1, 0), (0, 2, 1)])])
    image = replace(perfect(SCENES[0]), image_id="a", scores=np.array([[0.9, 0], [0, 0]], np.float32))
    for listed_only, looked_at in ((True, 1), (False, 2)):
        causes = CauseCounter(truth, vocabulary, persons=True, listed_only=listed_only)
        assert len(list(causes.watch([PredictionBatch.of([image], 2)]))) == 1
        assert sum(causes.counts.values()) == looked_at
        assert causes.counts["right"] == looked_at


def test_the_person_filter_leaves_causes_out_too() -> None:
    vocabulary = Vocabulary("hico_det", tuple(OBJECTS), ("ride", "hold"), ((0, 1), (1, 2)))
    truth = ground_truth_of([AnnotatedImage("a", (200, 100), SCENES[0].boxes, [0, 1, 2], [(0, 1, 0), (0, 2, 1)])])
    image = replace(perfect(SCENES[0]), image_id="a", sub_labels=np.array([0, 2], np.int32))
    causes = CauseCounter(truth, vocabulary, persons=True, person_filter=True)
    causes.update(image)
    assert causes.counts == {**dict.fromkeys(causes.counts, 0), "right": 1}
