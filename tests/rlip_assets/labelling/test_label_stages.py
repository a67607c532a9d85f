"""The factory's stages one after the other on a drawn bucket: counts, kills, damage, and what is computed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rlip_assets.datasets.scenes import Scene, make_scene, read_scenes, scene_hash
from rlip_assets.labelling.calibration.curves import Temperature
from rlip_assets.labelling.candidates import candidate_stage
from rlip_assets.labelling.caption_parsing import parse_stage
from rlip_assets.labelling.captions import stage as captions_module
from rlip_assets.labelling.captions.stage import caption_stage
from rlip_assets.labelling.label_tables import CandidateRow, CaptionRow, TripletRow, read_rows, write_rows
from rlip_assets.labelling.tagging import pair_judge, tagging_stage
from rlip_assets.labelling.tagging import stage as labels_module
from rlip_assets.labelling.tagging.pair_judge import judge_scenes
from rlip_assets.labelling.tagging.stage import tagger_digest
from rlip_assets.lineage.shards import shard_of
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.files import write_json
from rlip_assets.storage.quarantine import read_quarantine
from rlip_model import ModelConfig, build_model, save_checkpoint, train_label_tokenizer
from tests.support.label_factory import (
    Log,
    captioner_folder,
    content,
    context,
    draw_bucket,
    make_params,
    tagger_folder,
    write_bucket,
    write_classes,
    write_raw_manifest,
)

CAPTIONS = {"rows_per_shard": 4, "batch_size": 3, "captions_per_image": 2, "max_tokens": 12, "quarantine_limit": 0.3}
TAGGING = {"rows_per_shard": 4, "batch_size": 3, "store_threshold": 0.0, "quarantine_limit": 0.3}
IMAGES, BAD = 9, (3, 5)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("bucket")
    scenes = draw_bucket(base / "raw", IMAGES, bad=BAD)
    rows = [
        CandidateRow(
            s.image_id,
            scene_hash(s),
            [0, 1, 0],
            [1, 2, 2],
            ["ride", "sit on", "hold"],
            ["riding", "sits on", "holding"],
            [1, 2, 1],
        )
        for s in scenes
    ]
    rows[0] = CandidateRow(scenes[0].image_id, scene_hash(scenes[0]), [], [], [], [], [])
    write_rows(base / "candidates" / "part-00000.parquet", CandidateRow, rows)
    return {
        "raw": base / "raw",
        "scenes": write_bucket(base, scenes),
        "manifest": write_raw_manifest(base, base / "raw", scenes),
        "classes": write_classes(base),
        "captioner": captioner_folder(base),
        "r_tagger": tagger_folder(base / "tagger"),
        "candidates": base / "candidates",
    }


def params_of(bucket: Mapping[str, Path], **changes: dict[str, Any]) -> Any:
    sections = {"captions": CAPTIONS | changes.get("captions", {}), "tagging": TAGGING | changes.get("tagging", {})}
    return make_params(bucket["raw"], **sections)


def test_captions_count_quarantine_and_resume(
    bucket: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = params_of(bucket)
    whole = context(tmp_path / "a", "captions", params, bucket, "captions", Log())
    figures = caption_stage(whole)
    assert (figures["input"], figures["images"], figures["quarantined"], figures["captions"]) == (
        IMAGES,
        IMAGES - 2,
        2,
        2 * (IMAGES - 2),
    )
    assert [row.image_id for row in read_quarantine(whole.outputs["captions"])] == ["3", "5"]
    rows = list(read_rows(whole.outputs["captions"], CaptionRow))
    assert sorted(row.image_id for row in rows) == [str(i) for i in range(IMAGES) if i not in BAD]
    assert all(len(row.captions) == 2 for row in rows)
    assert len(whole.log.pictures) == 3  # type: ignore[attr-defined]

    calls = []
    original = captions_module.caption_scenes

    def dies_at_the_third(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(captions_module, "caption_scenes", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        caption_stage(context(tmp_path / "b", "captions", params, bucket, "captions"))
    again = context(tmp_path / "b", "captions", params, bucket, "captions", Log())
    assert caption_stage(again) == figures
    assert again.log.lines == ["2 of 4 shards were there already"]  # type: ignore[attr-defined]
    assert content(again.outputs["captions"]) == content(whole.outputs["captions"])


def test_captions_are_the_same_whatever_the_shards(bucket: dict[str, Path], tmp_path: Path) -> None:
    found = []
    for size in (2, 100):
        ctx = context(tmp_path, "captions", params_of(bucket, captions={"rows_per_shard": size}), bucket, "captions")
        caption_stage(ctx)
        found.append({row.image_id: row.captions for row in read_rows(ctx.outputs["captions"], CaptionRow)})
    assert found[0] == found[1]


def test_too_many_unreadable_images_fail(bucket: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 of 9 images"):
        caption_stage(
            context(tmp_path, "captions", params_of(bucket, captions={"quarantine_limit": 0.1}), bucket, "captions")
        )


def test_parsing_counts_and_votes(bucket: dict[str, Path], tmp_path: Path) -> None:
    rows = [
        CaptionRow("1", ["a man riding a horse", "a man rides a horse", "a man riding a horse", "a living room"]),
        CaptionRow("2", ["", "the sky"]),
    ]
    write_rows(tmp_path / "in" / "part-00000.parquet", CaptionRow, rows)
    ctx = context(tmp_path, "caption_triplets", params_of(bucket), {"captions": tmp_path / "in"}, "caption_triplets")
    figures = parse_stage(ctx)
    assert {key: figures[key] for key in ("images", "captions", "parsed_captions", "captions_without_triplet")} == {
        "images": 2,
        "captions": 6,
        "parsed_captions": 5,
        "captions_without_triplet": 3,
    }
    assert (figures["images_without_triplet"], figures["triplets"], figures["statements"]) == (1, 2, 3)
    first, second = sorted(read_rows(ctx.outputs["caption_triplets"], TripletRow), key=lambda row: row.image_id)
    assert list(zip(first.surface, first.relation, first.votes, strict=True)) == [
        ("riding", "ride", 2),
        ("rides", "ride", 1),
    ]
    assert second.votes == []


def test_captions_to_labels_in_a_row(bucket: dict[str, Path], tmp_path: Path) -> None:
    """The outputs of one stage are what the next one reads."""
    params = params_of(bucket)
    inputs = dict(bucket)
    captions = [
        CaptionRow(str(i), ["a woman is riding a dog", "a dog on a bench next to a man"])
        for i in range(IMAGES)
        if i not in BAD
    ]
    write_rows(tmp_path / "in" / "part-00000.parquet", CaptionRow, captions)
    inputs["captions"] = tmp_path / "in"
    for stage, function in (
        ("caption_triplets", parse_stage),
        ("candidates", candidate_stage),
        ("pseudo_labels", tagging_stage),
    ):
        ctx = context(tmp_path, stage, params, inputs, stage)
        function(ctx)
        inputs[stage] = ctx.outputs[stage]
    labelled = list(read_scenes(inputs["pseudo_labels"]))
    assert len(labelled) == len(captions)
    for scene in labelled:
        stated = set(zip(scene.subject.tolist(), scene.object.tolist(), scene.relation, strict=True))
        assert stated == {(0, 1, "ride"), (1, 2, "on"), (1, 0, "next to")}


def test_tagging_counts_filters_and_resumes(
    bucket: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = context(tmp_path, "pseudo_labels", params_of(bucket), bucket, "pseudo_labels", Log())
    figures = tagging_stage(ctx)
    assert (figures["input"], figures["images"], figures["quarantined"], figures["excluded"]) == (
        IMAGES,
        IMAGES - 2,
        2,
        0,
    )
    assert figures["labels"] == figures["scored"] == 3 * (IMAGES - 3)
    assert sum(figures["confidence_deciles"]) == sum(figures["by_relation"].values()) == figures["labels"]
    assert figures["images_without_label"] == 1
    before = {scene.image_id: scene for scene in read_scenes(bucket["scenes"])}
    confidences = []
    for scene in read_scenes(ctx.outputs["pseudo_labels"]):
        assert scene_hash(scene) == scene_hash(before[scene.image_id])
        assert (scene.file_name, scene.split) == (before[scene.image_id].file_name, "train")
        confidences += scene.confidence.tolist()
    threshold = sorted(confidences)[len(confidences) // 2]

    def no_network(*_: object) -> None:
        raise AssertionError("the network ran again")

    monkeypatch.setattr(labels_module, "open_tagger", no_network)
    stricter = context(
        tmp_path,
        "pseudo_labels",
        params_of(bucket, tagging={"store_threshold": threshold, "top_k": 1}),
        bucket,
        "pseudo_labels",
    )
    labels = tagging_stage(stricter)["labels"]
    assert 0 < labels <= sum(c >= threshold for c in confidences)
    same = context(tmp_path, "pseudo_labels", params_of(bucket), bucket, "pseudo_labels", Log())
    assert tagging_stage(same) == figures
    assert content(same.outputs["pseudo_labels"]) == content(ctx.outputs["pseudo_labels"])
    assert "no labels of an earlier state to compare with" in ctx.log.lines  # type: ignore[attr-defined]
    told = f"against the last labels: {figures['labels'] - labels} added, 0 removed, 0 of {labels} kept ones moved"
    assert told in same.log.lines  # type: ignore[attr-defined]

    curve = Temperature(temperature=2.0, tagger=tagger_digest(bucket["r_tagger"]))
    write_json(tmp_path / "fitted/calibration.json", curve.model_dump(mode="json"))
    calibrated = context(
        tmp_path, "pseudo_labels", params_of(bucket), bucket | {"calibration": tmp_path / "fitted"}, "pseudo_labels"
    )
    tagging_stage(calibrated)
    tables = (read_scenes(each.outputs["pseudo_labels"]) for each in (same, calibrated))
    for raw, scene in zip(*tables, strict=True):
        assert scene.relation == raw.relation
        assert scene.confidence == pytest.approx(curve(raw.confidence))
    write_json(tmp_path / "fitted/calibration.json", Temperature(temperature=2.0, tagger="b").model_dump(mode="json"))
    with pytest.raises(InputError, match="of another R-Tagger; run the stage 'calibration' first"):
        tagging_stage(calibrated)


def test_only_a_bucket_without_any_answer_fails(
    bucket: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers are counted over the shards, each image tells its progress, and pictures name the model that answered."""
    answered: set[str] = set()
    told, titles = [], []

    def judge(
        photo: Image.Image, scene: Scene, subject: int, target: int, relations: Sequence[str]
    ) -> list[float | None]:
        return [0.5 if scene.image_id in answered else None for _ in relations]

    def title(photo: Image.Image, triplets: Any, name: str) -> Image.Image:
        titles.append(name)
        return photo

    monkeypatch.setattr(labels_module._Tagging, "_open", lambda _: partial(judge_scenes, judge))
    monkeypatch.setattr(labels_module, "draw_triplets", title)
    monkeypatch.setattr(pair_judge, "rows_done", lambda: told.append(1))
    monkeypatch.setattr(pair_judge, "_ENOUGH", 18)
    params = params_of(bucket, tagging={"source": "image_text", "model": "team/judge", "rows_per_shard": 1})

    def run(name: str) -> dict[str, Any]:
        return tagging_stage(context(tmp_path / name, "pseudo_labels", params, bucket, "pseudo_labels", Log()))

    with pytest.raises(DataError, match="team/judge answers none of 18 candidates of this bucket"):
        run("a")
    assert len(told) == IMAGES
    answered.add("1")
    figures = run("b")
    assert {name: figures[name] for name in ("scored", "unanswered", "outside", "labels")} == {
        "scored": 3,
        "unanswered": 15,
        "outside": 0,
        "labels": 3,
    }
    assert titles == ["team/judge"]


IMAGE_STAGES = pytest.mark.parametrize(
    ("stage", "function"), [("captions", caption_stage), ("pseudo_labels", tagging_stage)]
)


def replace_image(path: Path) -> None:
    """Another picture under the same name, of the same size."""
    with Image.open(path) as image:
        size = image.size
    Image.effect_mandelbrot(size, (-3, -2.5, 2, 2.5), 9).convert("RGB").save(path)


@IMAGE_STAGES
def test_an_image_replaced_by_another_of_its_size_is_read_again(
    bucket: dict[str, Path], tmp_path: Path, stage: str, function: Any
) -> None:
    """Its shard is made again, and no other."""
    raw = tmp_path / "raw"
    scenes = draw_bucket(raw, IMAGES)

    def run() -> tuple[dict[str, bytes], list[str]]:
        inputs = {**bucket, "raw": raw, "manifest": write_raw_manifest(tmp_path, raw, scenes)}
        ctx = context(tmp_path, stage, params_of(inputs), inputs, stage, Log())
        function(ctx)
        return content(ctx.outputs[stage]), ctx.log.lines  # type: ignore[attr-defined]

    before, _ = run()
    same, told = run()
    assert same == before
    assert "4 of 4 shards were there already" in told
    replace_image(raw / "007.png")
    after, told = run()
    assert "3 of 4 shards were there already" in told
    changed = [name for name in sorted(before) if name.startswith("part-") and after[name] != before[name]]
    assert changed == [f"part-{shard_of('7', 4):05d}.parquet"]


@IMAGE_STAGES
def test_an_image_that_is_not_the_one_of_its_manifest_is_refused(
    bucket: dict[str, Path], tmp_path: Path, stage: str, function: Any
) -> None:
    """A result stored under a checksum was made from the file that has it."""
    raw = tmp_path / "raw"
    scenes = draw_bucket(raw, IMAGES)
    inputs = {**bucket, "raw": raw, "manifest": write_raw_manifest(tmp_path, raw, scenes)}
    replace_image(raw / "007.png")
    with pytest.raises(InputError, match=r"007\.png changed since its manifest was made; run the raw_manifest stage"):
        function(context(tmp_path, stage, params_of(inputs), inputs, stage))
    inputs["manifest"] = write_raw_manifest(tmp_path, raw, scenes[:-1])
    with pytest.raises(InputError, match=r"bucket-0\.json does not list image 8 of .*scenes; run the scenes stage"):
        function(context(tmp_path, stage, params_of(inputs), inputs, stage))


def test_excluded_images_receive_no_labels(bucket: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "test_images.txt").write_text("1\n\n2\n")
    params = params_of(bucket, tagging={"exclude": [str(tmp_path / "test_images.txt")], "quarantine_limit": 0.5})
    ctx = context(tmp_path, "pseudo_labels", params, bucket, "pseudo_labels")
    assert tagging_stage(ctx)["excluded"] == 2
    assert not {"1", "2"} & {scene.image_id for scene in read_scenes(ctx.outputs["pseudo_labels"])}
    write_json(tmp_path / "listed/test_images.json", [{"image_id": "6"}, {"image_id": "of another bucket"}])
    both = context(
        tmp_path, "pseudo_labels", params, {**bucket, "decontamination": tmp_path / "listed"}, "pseudo_labels"
    )
    assert tagging_stage(both)["excluded"] == 4
    assert not {"1", "2", "6"} & {scene.image_id for scene in read_scenes(both.outputs["pseudo_labels"])}
    missing = context(
        tmp_path, "pseudo_labels", params_of(bucket, tagging={"exclude": ["nowhere.txt"]}), bucket, "pseudo_labels"
    )
    with pytest.raises(InputError, match="nowhere"):
        tagging_stage(missing)


def test_candidates_of_other_boxes_are_refused(bucket: dict[str, Path], tmp_path: Path) -> None:
    scenes = list(read_scenes(bucket["scenes"]))
    moved = make_scene("0", "coco", "train", scenes[0].file_name, 40, 36, scenes[0].boxes + 1, scenes[0].labels)
    inputs = bucket | {"scenes": write_bucket(tmp_path, [moved, *scenes[1:]])}
    with pytest.raises(DataError, match="image 0 for other boxes"):
        tagging_stage(context(tmp_path, "pseudo_labels", params_of(bucket), inputs, "pseudo_labels"))


def test_other_models_are_no_tagger(bucket: dict[str, Path], tmp_path: Path) -> None:
    detector = tmp_path / "detector"
    tokenizer = train_label_tokenizer(["ride"], 300)
    preset = ModelConfig.preset("micro_parseda")
    config = replace(preset, text=replace(preset.text, vocabulary=tokenizer.vocabulary))
    save_checkpoint(detector, build_model(config), tokenizer, {})
    for folder, words in ((bucket["raw"], "no model folder"), (detector, "not an R-Tagger")):
        ctx = context(tmp_path, "pseudo_labels", params_of(bucket), bucket | {"r_tagger": folder}, "pseudo_labels")
        with pytest.raises(InputError, match=words):
            tagging_stage(ctx)


def test_damaged_and_foreign_tables_are_named(bucket: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "part-00000.parquet").write_bytes(b"PAR1 half a file")
    with pytest.raises(InputError, match=r"part-00000\.parquet is not a whole Parquet file"):
        list(read_rows(tmp_path, CaptionRow))
    with pytest.raises(InputError, match=r"rlip\.candidates"):
        list(read_rows(bucket["candidates"], CaptionRow))
    with pytest.raises(InputError, match="run the stage 'captions'"):
        list(read_rows(bucket["raw"], CaptionRow))


def test_shards_are_those_of_the_hash(bucket: dict[str, Path], tmp_path: Path) -> None:
    ctx = context(tmp_path, "captions", params_of(bucket), bucket, "captions")
    caption_stage(ctx)
    parts = sorted(ctx.outputs["captions"].glob("part-*"))
    for number, part in enumerate(parts):
        folder = tmp_path / f"only-{number}"
        folder.mkdir()
        (folder / part.name).write_bytes(part.read_bytes())
        assert len({shard_of(row.image_id, 4) for row in read_rows(folder, CaptionRow)}) <= 1
