"""Relation features of matched queries, filed under the verbs of their pairs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from rlip_assets.cli.application import app
from rlip_assets.datasets.scenes import NO_OBJECT, Scene, write_scenes
from rlip_assets.datasets.sources.classes import Classes
from rlip_assets.evaluation.alignment import uniformity
from rlip_assets.inference.features import measure_features
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.images import BadImageError
from rlip_assets.training.label_lists import benchmark_labels
from rlip_model import Checkpoint, ModelConfig, build_model, save_checkpoint, train_label_tokenizer

CLASSES = Classes(
    dataset="v_coco",
    objects=["person", "horse"],
    relations=["ride", "feed", "walk"],
    groups={"visual_genome": {"ride": "exact", "feed": "exact", "walk": "absent"}},
)


def scene(number: int, relations: list[tuple[int, int, str]]) -> Scene:
    return Scene(
        image_id=str(number), dataset="v_coco", split="test", file_name=f"{number}.png", width=120, height=80 + number,
        boxes=np.array([[5, 5, 45, 70], [40, 30, 110, 75]], np.float32), labels=("person", "horse"),
        subject=np.array([row[0] for row in relations], np.int32), object=np.array([row[1] for row in relations], np.int32),
        relation=tuple(row[2] for row in relations), confidence=np.full(len(relations), np.nan, np.float32),
    )  # fmt: skip


SCENES = [
    scene(0, [(0, 1, "ride"), (0, 1, "feed")]),
    scene(1, [(0, 1, "ride"), (0, NO_OBJECT, "walk")]),
    scene(2, []),
]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    config = ModelConfig.preset("micro_parseda").without_dropout()
    tokenizer = train_label_tokenizer(benchmark_labels(CLASSES).texts, 300)
    return Checkpoint(build_model(config).eval(), tokenizer, config, {"image_size": [64, 128]})


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for each in SCENES:
        Image.effect_noise((each.width, each.height), 80).convert("RGB").save(folder / each.file_name)
    return folder


def test_a_pair_counts_under_each_of_its_verbs(checkpoint: Checkpoint, images: Path) -> None:
    """Three pairs with four relations; "ride" has two features, "feed" and "walk" one, which is no pair."""
    found = measure_features(checkpoint, CLASSES, SCENES, images)
    assert (found["features"], found["classes"], found["classes_skipped"]) == (4, 1, 2)
    assert 0 < found["alignment"] < 4
    assert -8 < found["uniformity"] < 0
    tokens = checkpoint.tokenizer(benchmark_labels(CLASSES).texts)
    vectors = checkpoint.model.encode_text(*tokens)[-3:].detach().double()
    points = torch.nn.functional.normalize(vectors, dim=-1).numpy()
    assert found["text_uniformity"] == pytest.approx(uniformity(points))
    assert found["text_uniformity_exact"] == pytest.approx(uniformity(points[:2]))
    assert np.isnan(found["text_uniformity_absent"])


def test_measuring_twice_leaves_the_network_as_it_was(checkpoint: Checkpoint, images: Path) -> None:
    first, second = (measure_features(checkpoint, CLASSES, SCENES, images) for _ in range(2))
    np.testing.assert_equal(first, second)
    assert not checkpoint.model.relation_decoder._forward_hooks


def test_what_cannot_be_measured_is_refused(checkpoint: Checkpoint, images: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no image has an annotated relation"):
        measure_features(checkpoint, CLASSES, SCENES[2:], images)
    with pytest.raises(BadImageError, match=r"1\.png"):
        measure_features(checkpoint, CLASSES, SCENES, tmp_path)
    assert not checkpoint.model.relation_decoder._forward_hooks


def test_the_command_prints_the_measures(checkpoint: Checkpoint, images: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", checkpoint.model, checkpoint.tokenizer, checkpoint.metadata)
    write_scenes(tmp_path / "scenes", SCENES)
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES.model_dump(mode="json")))
    arguments = ["alignment", str(tmp_path / "model"), "--scenes", str(tmp_path / "scenes"), "--images", str(images)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    found = dict(line.split() for line in result.output.splitlines())
    assert found["features"] == "4"
    assert float(found["alignment"]) == pytest.approx(
        measure_features(checkpoint, CLASSES, SCENES, images)["alignment"], abs=1e-3
    )
