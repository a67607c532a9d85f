"""Images of test splits are found by id and by looks, listed with their twins, and neither receive labels nor are trained on."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from rlip_assets.datasets import decontamination
from rlip_assets.datasets.decontamination import decontamination_stage, read_listed
from rlip_assets.datasets.perceptual_hash import thumbnail_of
from rlip_assets.datasets.scenes import Scene, make_scene, write_scenes
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.registry import build_registry
from rlip_assets.storage.errors import InputError, UnavailableError
from rlip_assets.storage.files import write_json
from tests.support.label_factory import Log, context, scenery


def table(folder: Path, dataset: str, images: Sequence[tuple[str, str, Image.Image | None]], raw: Path) -> Path:
    """A scene table of (id, split, picture) and its files; None is a file that is missing."""
    scenes: list[Scene] = []
    raw.mkdir(parents=True, exist_ok=True)
    for image_id, split, picture in images:
        name = f"{image_id}.jpg"
        if picture is not None:
            picture.save(raw / name, quality=80)
        scenes.append(make_scene(image_id, dataset, split, name, 160, 120, [(1, 1, 9, 9)], ["dog"]))
    write_scenes(folder, scenes)
    return folder


@pytest.fixture
def mixed(tmp_path: Path) -> tuple[Params, dict[str, Path]]:
    """COCO with a test image of V-COCO (by id), one of HICO-DET (by looks), training images of both, a plain and a missing file."""
    raw = {name: tmp_path / "raw" / name for name in ("coco", "v_coco", "hico_det")}
    params = Params.model_validate({"sources": {name: {"root": str(path)} for name, path in raw.items()}})
    plain = Image.new("RGB", (160, 120), "white")
    coco = [("1", "train", scenery(1)), ("2", "train", scenery(2)), ("3", "train", scenery(3)), ("4", "val", plain)]
    inputs = {
        "scenes": table(tmp_path / "coco", "coco", [*coco, ("5", "train", scenery(5)), ("6", "val", None)], raw["coco"]),
        "benchmark/v_coco": table(
            tmp_path / "v_coco", "v_coco", [("1", "test", None), ("2", "train", scenery(2))], raw["v_coco"]
        ),
        "benchmark/hico_det": table(
            tmp_path / "hico", "hico_det", [("h3", "test", ImageOps.mirror(scenery(3)).crop((0, 3, 155, 120))), ("h5", "train", scenery(5)),
                                            ("h4", "test", plain)], raw["hico_det"]
        ),
    }  # fmt: skip
    return params, inputs


def test_test_images_are_listed_with_their_twins(mixed: tuple[Params, dict[str, Path]], tmp_path: Path) -> None:
    params, inputs = mixed
    ctx = context(tmp_path, "decontamination", params, inputs, "decontamination")
    figures = decontamination_stage(ctx)
    listed = json.loads((ctx.outputs["decontamination"] / "test_images.json").read_text())
    found = [(entry["image_id"], entry["benchmark"], entry["test_image"], entry["found_by"]) for entry in listed]
    assert found == [("1", "v_coco", "1", "id"), ("3", "hico_det", "h3", "looks")]
    assert listed[0]["likeness"] is None
    assert params.decontamination.min_likeness <= listed[1]["likeness"] <= 1
    assert read_listed(ctx.outputs["decontamination"]) == {"1", "3"}
    assert figures["images"] == figures["compared"] + figures["plain"] + figures["unreadable"] == 6
    assert (figures["plain"], figures["unreadable"], figures["listed"]) == (1, 1, 2)
    assert (figures["by_id"], figures["by_looks"]) == (1, 1)
    assert figures["by_benchmark"] == {"hico_det": 1, "v_coco": 1}
    assert figures["test_images"] == {"hico_det": 2, "v_coco": 1}
    assert figures["test_images_unreadable"] == {"hico_det": 0, "v_coco": 1}


def test_only_replaced_files_are_read_again(
    mixed: tuple[Params, dict[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, inputs = mixed
    first = context(tmp_path, "decontamination", params, inputs, "decontamination", Log())
    figures = decontamination_stage(first)
    again = context(tmp_path, "decontamination", params, inputs, "decontamination", Log())
    assert decontamination_stage(again) == figures
    assert "1 of 1 shards were there already" in again.log.lines  # type: ignore[attr-defined]
    scenery(3).resize((300, 200)).save(tmp_path / "raw/coco/5.jpg")
    third = context(tmp_path, "decontamination", params, inputs, "decontamination")
    assert decontamination_stage(third)["listed"] == 3


def test_a_file_with_the_size_and_time_of_the_one_before_is_read_again(
    mixed: tuple[Params, dict[str, Path]], tmp_path: Path
) -> None:
    params, inputs = mixed
    file = tmp_path / "raw/coco/5.jpg"
    for picture, listed in ((5, 2), (3, 3)):
        scenery(picture).save(file, format="bmp")
        os.utime(file, (1, 1))
        ctx = context(tmp_path, "decontamination", params, inputs, "decontamination")
        assert decontamination_stage(ctx)["listed"] == listed


def test_a_test_image_that_could_not_be_read_is_compared_once_it_is_back(
    mixed: tuple[Params, dict[str, Path]], tmp_path: Path
) -> None:
    params, inputs = mixed
    test_image = tmp_path / "raw/hico_det/h3.jpg"
    content = test_image.read_bytes()
    test_image.unlink()
    for unreadable, listed in ((1, 1), (0, 2)):
        ctx = context(tmp_path, "decontamination", params, inputs, "decontamination", Log())
        figures = decontamination_stage(ctx)
        assert (figures["test_images_unreadable"]["hico_det"], figures["listed"]) == (unreadable, listed)
        told = "1 test images of hico_det cannot be read: they are found by id alone"
        assert (told in ctx.log.lines) == bool(unreadable)  # type: ignore[attr-defined]
        test_image.write_bytes(content)


def test_only_the_unreadable_test_images_are_tried_again(
    mixed: tuple[Params, dict[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, inputs = mixed
    rows = [("h3", "test", scenery(3)), ("h9", "test", None)]
    inputs["benchmark/hico_det"] = table(tmp_path / "hico", "hico_det", rows, tmp_path / "raw/hico_det")

    def read() -> list[str]:
        tried: list[str] = []

        def noted(path: Path) -> Any:
            tried.append(path.name)
            return thumbnail_of(path)

        monkeypatch.setattr(decontamination, "thumbnail_of", noted)
        figures = decontamination_stage(context(tmp_path, "decontamination", params, inputs, "decontamination"))
        assert (figures["by_benchmark"]["hico_det"], figures["test_images_unreadable"]["hico_det"]) == (1, 1)
        return [name for name in tried if name.startswith("h")]

    assert read() == ["h3.jpg", "h9.jpg"]
    assert read() == ["h9.jpg"]


def test_a_replaced_test_image_is_read_again(mixed: tuple[Params, dict[str, Path]], tmp_path: Path) -> None:
    """Its table has the same rows; the manifest that the runner writes beside them has another raw manifest among its inputs."""
    params, inputs = mixed
    for state, listed in (("a", 2), ("b", 3)):
        write_json(inputs["benchmark/hico_det"] / "manifest.json", {"inputs": {"manifest": state}})
        ctx = context(tmp_path, "decontamination", params, inputs, "decontamination")
        assert decontamination_stage(ctx)["listed"] == listed
        scenery(5).resize((300, 200)).save(tmp_path / "raw/hico_det/h4.jpg")


@pytest.mark.parametrize("dataset", ["coco", "hico_det"])
def test_a_dataset_whose_mount_is_gone_ends_the_stage(
    mixed: tuple[Params, dict[str, Path]], tmp_path: Path, dataset: str
) -> None:
    """Its twins would be missing from the list, which nothing makes again."""
    params, inputs = mixed
    for file in (tmp_path / "raw" / dataset).iterdir():
        file.unlink()
    with pytest.raises(UnavailableError, match=f"raw/{dataset} is missing or empty, though its images were there"):
        decontamination_stage(context(tmp_path, "decontamination", params, inputs, "decontamination"))


def test_images_of_visual_genome_are_found_by_the_id_that_coco_gives_them(tmp_path: Path) -> None:
    raw = {name: tmp_path / "raw" / name for name in ("visual_genome", "v_coco", "hico_det", "open_images")}
    params = Params.model_validate({"sources": {name: {"root": str(path)} for name, path in raw.items()}})
    mine = [(str(number), "train", scenery(number)) for number in (1, 2, 3, 4)]
    inputs = {
        "scenes": table(tmp_path / "vg", "visual_genome", mine, raw["visual_genome"]),
        "benchmark/v_coco": table(tmp_path / "v_coco", "v_coco", [("100", "test", scenery(9)), ("3", "test", None)], raw["v_coco"]),
        "benchmark/hico_det": table(tmp_path / "hico", "hico_det", [("h4", "test", scenery(4))], raw["hico_det"]),
    }  # fmt: skip
    facts: dict[str, Any] = {"coco_ids": None, "object_aliases": [], "relation_aliases": []}
    inputs["facts"] = tmp_path / "facts.json"

    def listed() -> list[tuple[str, str, str]]:
        ctx = context(tmp_path, "human_decontamination", params, inputs, "decontamination")
        decontamination_stage(replace(ctx, partition="visual_genome-0"))
        found = json.loads((ctx.outputs["decontamination"] / "test_images.json").read_text())
        return [(entry["image_id"], entry["test_image"], entry["found_by"]) for entry in found]

    write_json(inputs["facts"], facts)
    assert listed() == [("4", "h4", "looks")]  # ids 1 and 3 are Visual Genome's own
    write_json(inputs["facts"], facts | {"coco_ids": {"1": "100", "3": "101"}})
    assert listed() == [("1", "100", "id"), ("4", "h4", "looks")]


def test_a_missing_or_foreign_list_is_named(tmp_path: Path) -> None:
    for content in (None, "{}x", '["1"]'):
        if content is not None:
            (tmp_path / "test_images.json").write_text(content)
        with pytest.raises(InputError, match=r"test_images\.json is no list"):
            read_listed(tmp_path)


def test_real_datasets_are_decontaminated_by_default_and_drawn_ones_left_as_they_are() -> None:
    assert not {"decontamination", "human_decontamination"} & build_registry(Params()).specs.keys()

    def registry(dataset: str, **section: Any) -> Any:
        return build_registry(Params.model_validate({"sources": {dataset: {"root": "/data/raw"}}, **section}))

    real = registry("coco")
    assert real.item("pseudo_labels", "coco-0").inputs["decontamination"] == "data/decontamination/coco/bucket-0"
    assert "decontamination" not in real.item("pseudo_labels", "objects365-0").inputs
    assert real.spec("decontamination").partitions == real.spec("pseudo_labels").partitions
    assert {"scenes@v_coco-0", "scenes@hico_det-0", "scenes@open_images-0"} <= set(
        real.parents["decontamination@coco-0"]
    )
    assert "human_decontamination" not in real.specs
    assert "decontamination" not in registry("coco", decontamination={"exclude": False}).specs


def test_trainings_read_which_images_of_a_real_visual_genome_they_leave_out() -> None:
    params = {"sources": {"visual_genome": {"root": "/data/raw"}}}
    real = build_registry(Params.model_validate(params))
    assert "decontamination" not in real.specs
    tests = {f"scenes@{name}-0" for name in ("v_coco", "hico_det", "open_images")}
    assert {"scenes@visual_genome-0", "raw_manifest@visual_genome", *tests} <= set(
        real.parents["human_decontamination@visual_genome-0"]
    )
    readers = {child for parent, child in real.stage_edges if parent == "human_decontamination"}
    assert readers == {"r_tagger", "pretrain"}
    published = build_registry(Params.model_validate({**params, "decontamination": {"exclude": False}}))
    assert "human_decontamination" not in published.specs
    assert not [name for name in published.item("r_tagger").inputs if name.startswith("decontamination")]
