"""The `predict` stage: a checkpoint made before, judged on a benchmark as trainings are, and a row of the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlip_assets.evaluation.formats.predictions import read_predictions
from rlip_assets.evaluation.stage import benchmark_stage
from rlip_assets.inference.benchmark import predict_stage
from rlip_assets.lineage.context import NullLog, StageContext
from rlip_assets.lineage.params import Params, validate_params
from rlip_assets.lineage.registry import build_registry
from rlip_assets.report.facts import gather
from rlip_assets.storage.errors import ParameterError
from rlip_assets.storage.files import write_json
from rlip_assets.training.stage import pretrain_stage
from rlip_model import train_label_tokenizer
from tests.support.training_project import TRAINING, MemoryLog, Project
from tests.support.training_toys import OBJECTS, RELATIONS

START = "pretrain/vg_coco"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    tokenizer = train_label_tokenizer([*OBJECTS, *RELATIONS, "no objects"], 300, max_length=16)
    made = Project(tmp_path_factory.mktemp("project"), tokenizer)
    pretrain_stage(made.context("pretrain", "vg_coco", MemoryLog()))
    return made


def context(project: Project, benchmark: str = "hico_det", **choice: Any) -> StageContext:
    entry = {"checkpoint": START, "benchmark": benchmark, **choice}
    params = Params.model_validate({"training": TRAINING | {"start": START}, "predictions": {benchmark: entry}})
    found = replace(project.context("predict", benchmark, MemoryLog()), params=params)
    inputs = {**found.inputs, "scenes": project.root / "data/scenes" / benchmark}
    return replace(found, inputs={**inputs, "classes": project.root / f"{benchmark}.json"})


def test_a_pretrained_checkpoint_predicts_what_its_training_did(project: Project) -> None:
    ctx = context(project)
    assert predict_stage(ctx) == {"predicted_images": 2, "zero_shot": True}
    name = "predictions/hico_det.parquet"
    found = read_predictions(ctx.outputs["predictions"] / "hico_det.parquet")
    trained = read_predictions(project.root / "out/pretrain-vg_coco" / name)
    assert found.metadata["zero_shot"] is True
    for one, other in zip(found, trained, strict=True):
        assert one.image_ids == other.image_ids
        assert (one.scores == other.scores).all()
        assert (one.obj_boxes == other.obj_boxes).all()
    assert len(list(ctx.outputs["predictions"].glob("*.png"))) == 2


@pytest.mark.parametrize(("choice", "zero_shot"), [({}, True), ({"zero_shot": False}, False)])
def test_predictions_are_judged_as_they_were_made_and_have_a_row_in_the_report(
    project: Project, tmp_path: Path, choice: dict[str, Any], zero_shot: bool
) -> None:
    ctx = context(project, **choice)
    predict_stage(ctx)
    folder = tmp_path / "benchmarks/predict-hico_det"
    folder.mkdir(parents=True)
    inputs = {name: ctx.inputs[name] for name in ("scenes", "classes")} | {"predictions": ctx.outputs["predictions"]}
    metrics: dict[str, float] = {}

    class Log(NullLog):
        def metrics(self, values: Any, step: int | None = None) -> None:
            metrics.update(values)

    benchmark_stage(
        StageContext("benchmark", "predict-hico_det", ctx.params, inputs, {"benchmark": folder}, ctx.work, Log())
    )
    assert ("zero_shot_mAP" in metrics) == zero_shot
    write_json(tmp_path / "label_quality.json", {})
    (row,) = gather(tmp_path / "benchmarks", tmp_path, {"predict-hico_det": START})["results"]
    assert row["setting"] == "HICO-DET by vg_coco"
    assert set(row["figures"]) == {"Full", "Rare", "Non-rare"}


def test_a_prediction_is_an_item_of_the_lineage_between_its_checkpoint_and_the_report() -> None:
    predictions = {
        "zero_shot": {"checkpoint": "pretrain/vg_coco_o365", "benchmark": "v_coco"},
        "official": {"checkpoint": "/models/official", "recipe": "parseda_r50_hico_det_nf"},
    }
    registry = build_registry(Params.model_validate({"predictions": predictions}))
    item = registry.at("predict@zero_shot")
    assert item.inputs["checkpoint"] == "data/models/pretrain/vg_coco_o365"
    assert registry.at("predict@official").inputs["checkpoint"] == "/models/official"
    assert registry.parents["benchmark@predict-official"][0] == "predict@official"
    assert {"pretrain@vg_coco_o365", "scenes@v_coco-0"} <= set(registry.parents["predict@zero_shot"])
    assert "benchmark@predict-zero_shot" in registry.parents["report"]
    assert "predictions" in registry.at("report").params
    assert "predict" not in build_registry(Params()).specs


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (
            {"checkpoint": "pretrain/vgg", "benchmark": "hico_det"},
            "there is no training 'pretrain/vgg' in this profile",
        ),
        ({"checkpoint": START + "_o365"}, "give a benchmark or a recipe"),
        ({"checkpoint": "/a", "recipe": "micro_vg"}, "of kind pretrain, which predicts no benchmark"),
        ({"checkpoint": "/a", "recipe": "parseda_r50_v_coco", "benchmark": "hico_det"}, "is of v_coco, not hico_det"),
        ({"checkpoint": "/a", "recipe": "nobody"}, "no recipe is called 'nobody'"),
    ],
)
def test_what_cannot_be_predicted_is_refused_on_reading(entry: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        validate_params({"predictions": {"one": entry}}, "params.yaml")


def test_a_checkpoint_of_another_network_than_the_recipe_is_refused(project: Project) -> None:
    with pytest.raises(ParameterError, match=r"holds a network with backbone = .*: name another recipe, or none"):
        predict_stage(context(project, recipe="parseda_r50_hico_det_nf"))
    assert predict_stage(context(project, recipe="micro_hico_full", zero_shot=True))["zero_shot"] is True


def test_v_coco_is_predicted_zero_shot_by_a_pretrained_network(project: Project) -> None:
    ctx = context(project, "v_coco")
    assert predict_stage(ctx)["zero_shot"] is True
    reader = read_predictions(ctx.outputs["predictions"] / "v_coco.parquet")
    assert (reader.benchmark, reader.metadata["checkpoint"]) == ("v_coco", START)
    assert all(set(batch.sub_labels.tolist()) <= {0} for batch in reader)


def test_an_own_zero_shot_split_is_reported_by_its_classes(project: Project, tmp_path: Path) -> None:
    split = ((RELATIONS[0], OBJECTS[1]),)
    ctx = context(project, zero_shot=False, unseen=split)
    predict_stage(ctx)
    inputs = {name: ctx.inputs[name] for name in ("scenes", "classes")} | {"predictions": ctx.outputs["predictions"]}
    (tmp_path / "out").mkdir()
    run = StageContext(
        "benchmark", "predict-hico_det", ctx.params, inputs, {"benchmark": tmp_path / "out"}, ctx.work, NullLog()
    )
    assert {"seen", "unseen"} <= set(benchmark_stage(run))


def test_a_pretraining_on_the_benchmark_is_not_reported_as_zero_shot(project: Project) -> None:
    ctx = project.context("pretrain", "vg_coco", name="mixed")
    entry = TRAINING["pretrain"]["vg_coco"]
    sources = {"visual_genome": 1, "coco": 1, "hico_det": 1}
    entry = {**entry, "changes": {**entry["changes"], "sources": sources}}
    params = Params.model_validate({"training": TRAINING | {"start": START, "pretrain": {"vg_coco": entry}}})
    pretrain_stage(replace(ctx, params=params))
    reader = read_predictions(ctx.outputs["predictions"] / "hico_det.parquet")
    assert reader.metadata["zero_shot"] is False
