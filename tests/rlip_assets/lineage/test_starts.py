"""Starts of trainings, external weights and imported labels as parameters: what they make of the lineage, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from rlip_assets.lineage.params import Params, validate_params
from rlip_assets.lineage.registry import build_registry
from rlip_assets.lineage.spec import Registry
from rlip_assets.storage.errors import ParameterError


def registry(**content: Any) -> Registry:
    return build_registry(validate_params(content, "params.yaml"))


def finetune(**starts: str | None) -> dict[str, Any]:
    return {name: {"recipe": "micro_hico_full", "start": start} for name, start in starts.items()}


def test_a_fine_tuning_starts_from_a_pre_training_another_fine_tuning_or_a_folder() -> None:
    made = registry(
        training={
            "start": "pretrain/vg",
            "finetune": finetune(plain=None, second="finetune/plain", official="/weights/parseda_r50"),
        }
    )
    inputs = {name: made.item("finetune", name).inputs["checkpoint"] for name in ("plain", "second", "official")}
    assert inputs == {
        "plain": "data/models/pretrain/vg",
        "second": "data/models/finetune/plain",
        "official": "/weights/parseda_r50",
    }
    assert "finetune@plain" in made.parents["finetune@second"]
    assert not any("pretrain" in parent for parent in made.parents["finetune@official"])


@pytest.mark.parametrize(
    ("starts", "sentence"),
    [
        ({"a": "pretrain/nothing"}, "start of finetune.a: there is no training 'pretrain/nothing' in this profile"),
        ({"a": "finetune/b"}, "there is no training 'finetune/b'"),
        ({"a": "finetune/a"}, r"in a circle: a <- a"),
        ({"a": "finetune/b", "b": "finetune/a"}, r"in a circle: a <- b <- a"),
    ],
)
def test_a_start_that_cannot_be_is_refused_by_name(starts: dict[str, str], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        registry(training={"finetune": finetune(**starts)})


def test_each_network_may_have_a_detector_of_its_own() -> None:
    made = registry(
        external={"detector": "/weights/dab"},
        training={
            "r_tagger": {"recipe": "micro_tagger", "detector": "/weights/deformable"},
            "pretrain": {
                "vg_coco_o365": {"recipe": "micro_vg"},
                "vg": {"recipe": "micro_vg", "detector": "/weights/third"},
            },
        },
    )
    assert made.item("r_tagger").inputs["detector"] == "/weights/deformable"
    assert made.item("pretrain", "vg_coco_o365").inputs["detector"] == "/weights/dab"
    assert made.item("pretrain", "vg").inputs["detector"] == "/weights/third"


def test_an_imported_r_tagger_is_an_input_of_the_labels_and_is_not_trained() -> None:
    made = registry(external={"r_tagger": "/weights/tagger"})
    assert "r_tagger" not in made.specs
    assert {item.inputs["r_tagger"] for item in made.spec("pseudo_labels").items} == {"/weights/tagger"}


def test_imported_labels_take_the_place_of_the_stages_that_would_make_them() -> None:
    made = registry(external={"labels": {"coco": "/labels/coco"}})
    assert made.item("pretrain", "vg_coco_o365").inputs["pseudo_labels/coco"] == "/labels/coco"
    assert made.item("report").inputs["pseudo_labels/coco"] == "/labels/coco"
    for stage in ("captions", "caption_triplets", "candidates", "pseudo_labels"):
        assert set(made.spec(stage).partitions) == {"objects365-0", "objects365-1"}
    alone = registry(external={"labels": {"coco": "/labels/coco", "objects365": "/labels/o365"}})
    assert not {"captions", "pseudo_labels", "r_tagger"} & set(alone.specs)


def test_a_start_that_is_not_named_leaves_the_recorded_parameters_as_they_were() -> None:
    """`dvc.lock` holds the values of parameters: a key that nobody set may not make every training stale."""
    training = Params().model_dump(mode="json")["training"]
    assert set(training["finetune"]["hico_full"]) == set(training["r_tagger"]) == {"recipe", "changes", "seed"}
    named = Params.model_validate({"training": {"finetune": finetune(a="pretrain/vg")}})
    assert named.model_dump(mode="json")["training"]["finetune"]["a"]["start"] == "pretrain/vg"


@pytest.mark.parametrize(
    ("model", "given"), [("/models/vlm", "/models/vlm"), ("./models/vlm", "models/vlm"), ("owner/vlm", None)]
)
def test_a_folder_of_another_model_is_an_input_and_a_hub_name_is_none(model: str, given: str | None) -> None:
    made = registry(captions={"model": model}, tagging={"source": "image_text", "model": model})
    assert {item.inputs.get("captioner") for item in made.spec("captions").items} == {given}
    assert {item.inputs.get("tagging_model") for item in made.spec("pseudo_labels").items} == {given}
    assert not any("r_tagger" in item.inputs for item in made.spec("pseudo_labels").items)
