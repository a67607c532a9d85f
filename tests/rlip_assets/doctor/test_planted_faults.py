"""Faults planted in the roots and around them, all at once: one run names each of them, with a remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from rlip_assets.cli.doctor import doctor
from rlip_assets.doctor import registry
from rlip_assets.doctor.checks import annotation_files, images, starts, zero_shot_splits
from rlip_assets.doctor.finding import Level
from rlip_assets.doctor.foreign_inputs import foreign_inputs
from rlip_assets.doctor.registry import examine
from tests.support.raw_roots import box_row, change_json, image_row, write_json

WEIGHTS = Path(__file__).parents[3] / "rlip_assets/micro_world/starting_weights/weights"
Fault = tuple[str, str, str]
"""Check, and texts that one row of it has."""


def visual_genome(root: Path) -> list[Fault]:
    (root / "object_alias.txt").unlink()
    sizes = root / "image_data.json"
    sizes.write_text(sizes.read_text()[:-40])
    change_json(root / "scene_graphs.json", lambda rows: rows[2].update(objects=7))
    change_json(root / "scene_graphs.json", lambda rows: rows.append(rows[0]))
    (root / "images/5.jpg").unlink()
    photo = root / "images/6.jpg"
    photo.write_bytes(photo.read_bytes()[:-200])
    return [
        ("layout", "object_alias.txt", "missing"),
        ("annotations", "image_data.json", "ends"),
        ("annotations", "image 3", "objects"),
        ("annotations", "image 1", "appears twice"),
        ("images", "images/5.jpg", "not there"),
        ("images", "images/6.jpg", "truncated"),
    ]


def coco(root: Path) -> list[Fault]:
    (root / "annotations/instances_val2017.json").unlink()

    def change(content: Any) -> None:
        content["annotations"][0]["category_id"] = 99
        content["images"][1]["width"] = "40px"
        content["annotations"].append(box_row(77))
        content["images"].append(image_row(1, "other.jpg"))
        content["images"][5]["height"] = 31
        content["annotations"][6]["bbox"] = [1, 2, 3]

    change_json(root / "annotations/instances_train2017.json", change)
    (root / "train2017/000000000004.jpg").write_bytes(b"")
    Image.new("RGB", (8, 8)).save(root / "train2017/000000000005.jpg")
    return [
        ("layout", "instances_val2017.json", "missing"),
        ("annotations", "image 1", "several files"),
        ("annotations", "image 2", "width"),
        ("annotations", "image 77", "not listed"),
        ("annotations", "1 boxes are dropped", "not four numbers"),
        ("images", "000000000004.jpg", "empty"),
        ("images", "000000000005.jpg", "8 x 8"),
        ("images", "000000000006.jpg", "annotated 40 x 31"),
    ]


def objects365(root: Path) -> list[Fault]:
    file = root / "train/zhiyuan_objv2_train.json"
    file.write_text(file.read_text()[: file.stat().st_size // 2])
    shutil.rmtree(root / "val/patch1")
    (root / "val/patch0/objects365_v2_00000102.jpg").write_text("<html>404</html>")

    def change(content: Any) -> None:
        content["annotations"][1]["category_id"] = 400

    change_json(root / "val/zhiyuan_objv2_val.json", change)
    return [
        ("annotations", "zhiyuan_objv2_train.json", "ends"),
        ("annotations", "image 102", "category id 400"),
        ("images", "val/patch1", "no folder"),
        ("images", "objects365_v2_00000102.jpg", "no image of a known format"),
    ]


def hico_det(root: Path) -> list[Fault]:
    (root / "annotations/test_hico.json").unlink()

    def change(rows: Any) -> None:
        rows[0]["hoi_annotation"][0]["category_id"] = 118
        rows[1]["hoi_annotation"][0]["object_id"] = 5
        rows[2]["annotations"][0]["category_id"] = 12
        rows[3]["annotations"][0]["bbox"] = [1, 2, None, 4]
        del rows[9]

    change_json(root / "annotations/trainval_hico.json", change)
    return [
        ("layout", "test_hico.json", "missing"),
        ("annotations", "HICO_train2015_00000001", "verb id 118"),
        ("annotations", "HICO_train2015_00000002", "boxes 0 and 5"),
        ("annotations", "HICO_train2015_00000003", "category id 12"),
        ("annotations", "HICO_train2015_00000004", "bbox"),
        ("annotations", "8 train images are listed besides 1 unusable", "officially 10"),
    ]


def v_coco(root: Path) -> list[Fault]:
    (root / "data/splits/vcoco_test.ids").unlink()
    change_json(root / "data/vcoco/vcoco_trainval.json", lambda rows: rows[0]["role_object_id"].__setitem__(12, 9999))
    change_json(root / "data/vcoco/vcoco_test.json", lambda rows: rows[0]["label"].pop())
    shutil.rmtree(root / "images/val2014")
    shutil.rmtree(root / "images/train2014")
    (root / "images/train2014").mkdir()
    return [
        ("layout", "vcoco_test.ids", "missing"),
        ("annotations", "image 3", "role box 9999"),
        ("annotations", "vcoco_test.json row 0", "different lengths"),
        ("images", "COCO_train2014_000000000001.jpg", "10 of 10 train"),
    ]


def open_images(root: Path) -> list[Fault]:
    def change(rows: Any) -> None:
        rows[0]["det_labels"][1] = 601
        rows[1]["rel"][0] = [0, 5, 0]
        rows[2]["bbox"].pop()
        rows[3]["img_fn"] = "../outside"

    change_json(root / "annotations/vrd-train-anno.json", change)
    (root / "annotations/vrd-test-anno.json").write_text('[{"img_fn": "1", "bbox": nonsense}]')
    write_json(root / "annotations/vrd-val-anno.json", {"rows": []})
    return [
        ("annotations", "image 0000000000000000", "601"),
        ("annotations", "image 0000000000000001", "relation 0"),
        ("annotations", "image 0000000000000002", "1 boxes have 2 labels"),
        ("images", "../outside.jpg", "not there"),
        ("annotations", "vrd-test-anno.json", "not valid JSON"),
        ("annotations", "vrd-val-anno.json", "not a list"),
    ]


def own_datasets(root: Path) -> tuple[dict[str, Any], list[Fault]]:
    boxes = root / "boxes"
    boxes.mkdir(parents=True)
    (boxes / "oidv6-train-annotations-bbox.csv").write_text("ImageID,LabelName\n1,/m/1\n")
    (boxes / "class-descriptions-boxable.csv").write_text("/m/1,Person\n")
    (root / "shop").mkdir()
    (root / "shop/classes.json").write_text("{}")
    sources = {
        "gone": {"root": str(root / "gone"), "splits": {"train": {"annotations": "a.json"}}},
        "shop": {"root": str(root / "shop"), "splits": {"train": {"annotations": "boxes.json"}}},
        "boxes": {"root": str(boxes), "form": "open_images_boxes"},
        "remote": {"root": "s3://nowhere/coco", "splits": {"train": {"annotations": "a.json"}}},
    }
    return sources, [
        ("layout", "gone", "does not exist"),
        ("layout", "boxes.json", "missing"),
        ("annotations", "oidv6-train", "no column 'XMin'"),
        ("object store", "s3://nowhere/coco", "failed once"),
    ]


ROOTS: tuple[Callable[[Path], list[Fault]], ...] = (visual_genome, coco, objects365, hico_det, v_coco, open_images)


def plant_around(profile: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], list[Fault]]:
    """Faults in weights, parameters and services."""
    root = profile.root
    shutil.copytree(WEIGHTS / "detector", root / "detector")
    file = root / "detector/model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    shutil.copytree(WEIGHTS / "text_encoder", root / "text")
    (root / "text/tokenizer.json").write_text("{}")
    (root / "mlflow.db").write_text("this is no database, " * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    (root / ".dvc/config").write_text(f"[core]\n    remote = far\n['remote \"far\"']\n    url = {root / 'far'}\n")
    (root / "dvc.lock").write_text("stages: [\n")
    monkeypatch.setattr("rlip_assets.doctor.checks.packages.version", lambda name: "0.0.1")
    monkeypatch.setattr(
        "rlip_assets.doctor.checks.disk.shutil.disk_usage", lambda path: shutil._ntuple_diskusage(9, 8, 1)
    )
    changes = {
        "external": {"detector": "detector", "text_encoder": "text"},
        "captions": {"model": None},
        "candidates": {"synonyms": ["coco", "mine.toml"]},
        "tagging": {"exclude": ["tests.txt"]},
        "training": {"device": "cuda"},
    }
    return changes, [
        ("weights", "detector detector", "damaged"),
        ("weights", "text_encoder text", "tokenizer.json"),
        ("label files", "mine.toml", "no synonym table"),
        ("label files", "tests.txt", "cannot be read"),
        ("tracking", "mlflow.db", "not an MLflow store"),
        ("remote", "far", "does not exist"),
        ("pipeline", "dvc.lock", "cannot be read"),
        ("pipeline", "dvc.yaml", "is not the one"),
        ("packages", "torch", "0.0.1 is not"),
        ("disk", "disk", "needed"),
        ("GPU", "GPU", "there is none"),
    ]


def test_one_run_finds_every_planted_fault(profile: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, around = plant_around(profile, monkeypatch)
    own, others = own_datasets(profile.root / "own")
    profile.write({**changes, "sources": {"own": own}})
    with (profile.root / "dvc.yaml").open("a") as stream:
        stream.write("  stale: {}\n")
    planted = [(dataset.__name__, *fault) for dataset in ROOTS for fault in dataset(profile.raw(dataset.__name__))]
    assert len(planted) + len(others) >= 30
    rows = list(examine(profile.case()))
    told = [
        (row, f"{row.finding.subject} {row.finding.message}")
        for row in rows
        if row.finding.level in (Level.FAILED, Level.WARNING)
    ]
    faults = [*planted, *(("", *fault) for fault in [*others, *around])]
    unseen = [
        (dataset, check, *texts)
        for dataset, check, *texts in faults
        if not any(row.check == check and dataset in text and all(part in text for part in texts) for row, text in told)
    ]
    assert unseen == [], "\n".join(text for _, text in told)
    assert all(row.finding.remedy for row, _ in told)
    assert {row.finding.level for row, _ in told if row.check in ("layout", "weights")} >= {Level.FAILED}


@pytest.fixture
def without_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the checks that build networks."""
    kept = {name: check for name, check in registry.CHECKS.items() if name not in ("weights", "disk", "GPU")}
    monkeypatch.setattr(registry, "CHECKS", kept)


def test_interactions_that_a_benchmark_lacks_are_found_before_a_stage_runs(profile: Any) -> None:
    """By the classes that its root brings, or the official ones."""

    def found(unseen: object) -> list[tuple[str, str]]:
        changes = {"recipe": "micro_hico_uc_rf", "changes": {"unseen": unseen}}
        profile.write({"training": {"finetune": {"mine": changes}}})
        return [(finding.subject, finding.message) for finding in zero_shot_splits.check(profile.case())]

    assert found("uc_nf") == found([["ride", "horse"]]) == []
    lacking = found([["ride", "horse"], ["ride", "hores"]])
    assert lacking == [("training.finetune.mine", "hico_det has no interaction ('ride', 'hores')")]
    own = {"dataset": "hico_det", "objects": ["person", "hores"], "relations": ["ride"], "hois": [[0, 1]]}
    write_json(profile.raw("hico_det") / "classes.json", own)
    assert found([["ride", "hores"]]) == []
    assert found([["ride", "horse"]]) == [("training.finetune.mine", "hico_det has no interaction ('ride', 'horse')")]


@pytest.mark.usefixtures("without_networks")
def test_wrong_parameters_hide_nothing_else(profile: Any) -> None:
    """Each wrong key is a row; datasets whose parameters are valid are still looked at."""
    path = profile.root / "params.yaml"
    text = path.read_text().replace("roots/coco\n    buckets: 2", "roots/coco\n    buckets: many")
    text = text.replace("recipe: micro_tagger", "recipe: none_such").replace("profile: small", "profil: small")
    path.write_text(text)
    (profile.raw("hico_det") / "annotations/test_hico.json").unlink()
    rows = [(row.check, row.finding) for row in examine(profile.case())]
    failed = {(check, finding.subject) for check, finding in rows if finding.level is Level.FAILED}
    assert ("parameters", "params.yaml sources.coco.buckets") in failed
    assert ("parameters", "params.yaml profil") in failed
    assert any("none_such" in finding.message for check, finding in rows if check == "parameters")
    assert ("layout", "hico_det") in failed
    assert not any(finding.subject == "coco" for _, finding in rows)


@pytest.mark.usefixtures("without_networks")
def test_contradictions_and_placeholders_are_rows(profile: Any) -> None:
    """Contradictions of valid keys are told key by key, and hides no root."""
    path = profile.root / "params.yaml"
    content = yaml.safe_load(path.read_text())
    content["external"] |= {"detector": None, "text_encoder": None}
    content["sources"]["v_coco"]["root"] = "/path/to/v_coco"
    path.write_text(yaml.safe_dump(content))
    (profile.raw("hico_det") / "annotations/test_hico.json").unlink()
    rows = list(examine(profile.case()))
    failed = [f"{row.check} {row.finding.subject}" for row in rows if row.finding.level is Level.FAILED]
    assert {"parameters params.yaml external.detector", "parameters params.yaml external.text_encoder"} < set(failed)
    assert {"layout hico_det", "layout v_coco"} < set(failed)
    assert any("/path/to/v_coco" in row.finding.message for row in rows if row.finding.subject == "v_coco")
    assert not [row for row in rows if "check itself failed" in row.finding.remedy]


@pytest.mark.usefixtures("without_networks")
def test_trainings_of_a_dataset_that_is_left_out_are_wrong_parameters_and_no_lacking_weights(profile: Any) -> None:
    path = profile.root / "params.yaml"
    content = yaml.safe_load(path.read_text())
    content["sources"]["v_coco"] = None
    path.write_text(yaml.safe_dump(content))
    case = profile.case()
    failed = [row.finding.subject for row in examine(case) if row.finding.level is Level.FAILED]
    assert "params.yaml training.finetune.v_coco" in failed
    given = foreign_inputs(case.params, case.stages)
    assert {"text_encoder", "captioner"} <= {each.role for each in given}
    assert not [each.subject for each in given if "v_coco" in each.path]


@pytest.mark.parametrize("content", ["a: [", "- 1\n", None])
def test_unreadable_parameters_are_one_row(
    profile: Any, content: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = profile.root / "params.yaml"
    path.unlink() if content is None else path.write_text(content)
    rows = list(examine(profile.case()))
    assert [row.finding.level for row in rows if row.check == "parameters"] == [Level.FAILED]
    assert {row.check for row in rows} >= {"packages", "tracking"}
    assert not [row for row in rows if "check itself failed" in row.finding.remedy]
    monkeypatch.setattr("rlip_assets.cli.doctor.profile_root", lambda name: profile.root)
    with pytest.raises(SystemExit, match=r"^1$"):
        doctor("small")
    printed = capsys.readouterr().out
    assert "FAILED   parameters  params.yaml: " in printed
    assert " 0 FAILED" not in printed


def test_a_text_encoder_without_pooler_and_one_of_another_size(profile: Any) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(WEIGHTS / "text_encoder", profile.root / "text")
    file = profile.root / "text/model.safetensors"
    tensors = {name: value for name, value in load_file(file).items() if not name.startswith("pooler.")}
    largest = max(tensors, key=lambda name: tensors[name].numel())
    tensors[largest] = tensors[largest][:-1].clone()
    save_file(tensors, file)
    profile.write({"external": {"text_encoder": "text"}})
    found = [finding for finding in starts.check(profile.case()) if finding.subject == "text_encoder text"]
    assert [finding.level for finding in found if "has no pooler" in finding.message] == [Level.WARNING]
    assert any(largest in finding.message for finding in found if finding.level is Level.FAILED)


def test_large_files_are_searched_and_not_read(profile: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if ten images were gigabytes of annotations."""
    monkeypatch.setattr("rlip_assets.doctor.raw_data.READ_WHOLE", 0)
    train = profile.raw("coco") / "annotations/instances_train2017.json"
    train.write_text(json.dumps(json.loads(train.read_text()), indent=1).replace("000000000003.jpg", "a\\u0062.jpg"))
    Image.new("RGB", (8, 8)).save(profile.raw("coco") / "train2017/000000000002.jpg")
    (profile.raw("visual_genome") / "images/7.jpg").unlink()
    val = profile.raw("objects365") / "val/zhiyuan_objv2_val.json"
    val.write_text(val.read_text()[:-3])
    case, thorough = profile.case(), profile.case(thorough=True)
    found = [*annotation_files.check(case), *images.check(case)]
    told = [f"{finding.subject} {finding.message}" for finding in found if finding.level is Level.FAILED]
    assert any("coco" in text and "ab.jpg" in text for text in told)
    assert any("000000000002.jpg: 8 x 8 pixels, annotated 40 x 30" in text for text in told)
    assert any("images/7.jpg" in text for text in told)
    assert any("zhiyuan_objv2_val.json does not end as it begins" in text for text in told)
    assert any("not read" in finding.message for finding in found)
    assert not any("not read" in finding.message for finding in annotation_files.check(thorough))
