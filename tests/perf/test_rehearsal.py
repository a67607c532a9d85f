"""Stand-ins are true in form, and a rehearsal on them goes from raw datasets to a marked report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer

from perf.rehearsal.account import stage_table
from perf.rehearsal.datasets import write_datasets
from perf.rehearsal.profile import with_imports, with_stand_ins
from perf.rehearsal.stand_ins import StandIns
from perf.rehearsal.vocabularies import write_bert_tokenizer, write_roberta_tokenizer
from perf.rehearsal.weights import write_detectors
from rlip_assets.datasets.scenes import read_scenes
from rlip_assets.lineage.context import NullLog
from rlip_assets.lineage.params import Params, load_params, validate_params
from rlip_assets.lineage.profiles import PROJECT_ROOT, relative_project
from rlip_assets.lineage.registry import build_registry, load_registry
from rlip_assets.lineage.rehearsal import rehearsed
from rlip_assets.lineage.runner import run_stage
from rlip_model import LabelTokenizer, ModelConfig, build_model
from rlip_model.checkpoints.importing import import_detector
from rlip_model.checkpoints.transfer import initialise_from_detector

SHIPPED = PROJECT_ROOT / "rlip_assets/micro_world/starting_weights/weights"
IMAGES = 2


@contextmanager
def quiet(_: object) -> Iterator[NullLog]:
    yield NullLog()


def real_profile(root: Path) -> Params:
    """Write the micro recipes as a profile of real data at `root`, with stand-ins as roots."""
    content = Params().model_dump(mode="json")
    content["captions"]["captions_per_image"] = 2
    training = content["training"]
    training["pretrain"] = {"vg_coco_o365": training["pretrain"]["vg_coco_o365"]}
    training["finetune"] = {name: training["finetune"][name] for name in ("hico_full",)}
    for dataset, place in write_datasets(root / "stand-ins", IMAGES + 1).items():
        content["sources"][dataset]["root"] = str(place)
    shipped = {name: str(SHIPPED / name) for name in ("detector", "text_encoder", "captioner")}
    content["external"] |= shipped
    content = rehearsed(content, IMAGES, steps=1)
    (root / "params.yaml").write_text(json.dumps(content))
    return load_params(root / "params.yaml")


def run(root: Path, params: Params, stages: set[str] | None = None) -> list[str]:
    """Run the items of `stages` (all without) in order; return their addresses."""
    registry = build_registry(params, relative_project(root))
    items = [registry.at(address) for address in registry.order]
    chosen = [item for item in items if stages is None or item.stage in stages]
    for item in chosen:
        run_stage(registry, params, root, item.stage, item.partition, quiet)
    return [item.address for item in chosen]


def test_readers_take_every_stand_in(tmp_path: Path) -> None:
    params = real_profile(tmp_path)
    run(tmp_path, params, {"micro_world", "raw_manifest", "scenes"})
    looks = set()
    for dataset in params.sources.names:
        folder = tmp_path / f"data/scenes/{dataset}/bucket-0"
        scenes, figures = list(read_scenes(folder)), json.loads((folder / "manifest.json").read_text())["figures"]
        splits = {scene.split for scene in scenes}
        assert figures["quarantined"] == 0
        assert len(scenes) == IMAGES * len(splits)
        assert all(len(scene.labels) and scene.height == 512 for scene in scenes)
        for scene in scenes:
            with Image.open(Path(params.sources.of(dataset).root) / scene.file_name) as photo:
                looks.add((photo.mode, bool(photo.getexif())))
                width, height = photo.size
                assert {width, height} == {scene.width, scene.height}
    assert looks == {("RGB", False), ("L", False), ("RGB", True)}


def test_tokenizers_have_the_size_of_the_hub(tmp_path: Path) -> None:
    write_roberta_tokenizer(tmp_path, ["person", " riding", "riding"])
    labels = LabelTokenizer.from_pretrained(tmp_path)
    assert labels.vocabulary == 50265
    assert labels(["person"]).input_ids[0, [0, -1]].tolist() == [0, 2]
    bert = tmp_path / "bert"
    bert.mkdir()
    write_bert_tokenizer(bert, {"picture", "of", "horse"})
    words: Any = AutoTokenizer.from_pretrained(bert)
    assert len(words) == 30522
    assert words.decode(words("a picture of a horse", add_special_tokens=False)["input_ids"]) == "a picture of a horse"


def test_both_networks_start_from_their_detector(tmp_path: Path) -> None:
    write_detectors(tmp_path)
    for file, preset in zip(sorted(tmp_path.glob("*.pth")), ("parseda_r50", "tagger_r50"), strict=True):
        import_detector(file, tmp_path / preset)
        with torch.device("meta"):
            model = build_model(ModelConfig.preset(preset))
        report = initialise_from_detector(model.to_empty(device="cpu"), tmp_path / preset)
        assert not [key for key in report.fresh if key.startswith(("backbone", "input_proj", "transformer.ho_decoder"))]


def test_a_paper_profile_is_cut_to_one_training_of_each_kind(tmp_path: Path) -> None:
    content = Params().model_dump(mode="json")
    content["training"]["r_tagger"]["recipe"] = "tagger_r50_vg"
    changed = validate_params(rehearsed(with_stand_ins(content, StandIns(tmp_path)), 2, 1), "test")
    assert list(changed.training.pretrain) == ["vg_coco_o365"]
    assert list(changed.training.finetune) == ["hico_full", "v_coco", "open_images"]
    assert not any(map(changed.sources.is_drawn, changed.sources.names))


def test_imports_take_the_place_of_training_and_labelling(tmp_path: Path) -> None:
    stand_ins = StandIns(tmp_path)
    content = Params().model_dump(mode="json")
    content["training"]["r_tagger"]["recipe"] = "tagger_r50_vg"
    content = rehearsed(with_stand_ins(content, stand_ins), 2, 1)
    registry = build_registry(validate_params(with_imports(content, stand_ins), "test"))
    assert not {"r_tagger", "finetune", "predict", "benchmark", "report"} & set(registry.specs)
    assert registry.spec("captions").partitions == ("objects365-0",)
    assert registry.item("pretrain", "vg_coco_o365").inputs["pseudo_labels/coco"] == str(stand_ins.labels)
    assert {item.inputs["r_tagger"] for item in registry.spec("pseudo_labels").items} == {str(stand_ins.tagger)}


@pytest.mark.deep
def test_a_rehearsal_goes_from_raw_datasets_to_a_marked_report(tmp_path: Path) -> None:
    params = real_profile(tmp_path)
    addresses = run(tmp_path, params)
    assert {row["stage"]: row["items"] for row in stage_table(tmp_path).rows}["scenes"] == len(params.sources.names)
    assert {address.partition("@")[0] for address in addresses} == set(load_registry(tmp_path).specs)
    report = (tmp_path / "reports/benchmark.md").read_text()
    assert "rehearsal with at most 2 images per split and 1 steps per training" in report
    metadata = json.loads((tmp_path / "data/models/finetune/hico_full/metadata.json").read_text())
    assert metadata["trained_on"].startswith("rehearsal")
