"""Images of test splits are found by id and by looks, listed with their twins, and receive no labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_factory import Log, context
from PIL import Image, ImageDraw

from rlip_assets.decontamination import decontamination_stage, read_listed
from rlip_assets.errors import InputError
from rlip_assets.files import write_json
from rlip_assets.params import Params
from rlip_assets.picture_hash import BITS, WORDS, near_pairs, picture_hash
from rlip_assets.registry import build_registry
from rlip_assets.scenes import Scene, make_scene, write_scenes

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "photos"


def scenery(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A drawn picture like no other."""
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", size, tuple(rng.integers(0, 256, 3).tolist()))
    draw = ImageDraw.Draw(picture)
    for _ in range(25):
        x, y = rng.integers(0, size[0]), rng.integers(0, size[1])
        w, h = rng.integers(10, size[0] // 2), rng.integers(10, size[1] // 2)
        draw.ellipse((x - w, y - h, x + w, y + h), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return picture


def distance(first: Image.Image, second: Image.Image) -> int:
    a, b = picture_hash(first), picture_hash(second)
    assert a is not None
    assert b is not None
    return int(np.bitwise_count(a ^ b).sum())


def reencoded(picture: Image.Image, path: Path, scale: float, quality: int) -> Image.Image:
    picture.resize((round(picture.width * scale), round(picture.height * scale))).save(path, quality=quality)
    return Image.open(path)


@pytest.mark.parametrize(("scale", "quality"), [(1.0, 95), (0.5, 50), (1.7, 70), (0.8, 30)])
def test_copies_are_near_and_others_far(tmp_path: Path, scale: float, quality: int) -> None:
    limit = Params().decontamination.max_distance
    pictures = [scenery(seed) for seed in range(12)]
    for number, picture in enumerate(pictures):
        copy = reencoded(picture, tmp_path / "copy.jpg", scale, quality)
        others = [distance(copy, other) for n, other in enumerate(pictures) if n != number]
        assert distance(copy, picture) <= limit < 2 * limit < min(others)


@pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"the folder of real photographs {PHOTOS} is not here")
def test_real_photographs(tmp_path: Path) -> None:
    photos = [Image.open(file).convert("RGB") for file in sorted(PHOTOS.glob("*.jpg"))]
    for number, photo in enumerate(photos):
        assert distance(photo, reencoded(photo, tmp_path / "copy.jpg", 0.4, 40)) <= 12
        assert all(distance(photo, other) > 90 for other in photos[:number])


def test_pictures_without_contrast_have_no_hash() -> None:
    assert picture_hash(Image.new("RGB", (50, 40), "white")) is None


@given(st.integers(0, 2**32), st.integers(0, 5), st.integers(0, 5), st.integers(0, BITS))
def test_near_pairs_are_those_of_the_plain_comparison(seed: int, n: int, m: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = (rng.integers(0, 2**63, (rows, WORDS), dtype=np.uint64) for rows in (n, m))
    plain = [
        (i, j, sum(bin(int(a) ^ int(b)).count("1") for a, b in zip(first[i], second[j], strict=True)))
        for i in range(n)
        for j in range(m)
    ]
    assert list(near_pairs(first, second, limit)) == [pair for pair in plain if pair[2] <= limit]


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
            tmp_path / "hico", "hico_det", [("h3", "test", scenery(3).resize((90, 68))), ("h5", "train", scenery(5)),
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
    assert listed[1]["distance"] <= params.decontamination.max_distance
    assert read_listed(ctx.outputs["decontamination"]) == {"1", "3"}
    assert figures["images"] == figures["hashed"] + figures["plain"] + figures["unreadable"] == 6
    assert (figures["plain"], figures["unreadable"], figures["listed"]) == (1, 1, 2)
    assert (figures["by_id"], figures["by_looks"]) == (1, 1)
    assert figures["by_benchmark"] == {"hico_det": 1, "v_coco": 1}
    assert figures["test_images"] == {"hico_det": 2, "v_coco": 1}


def test_only_replaced_files_are_hashed_again(
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


def test_a_replaced_test_image_is_hashed_again(mixed: tuple[Params, dict[str, Path]], tmp_path: Path) -> None:
    """Its table has the same rows; the manifest that the runner writes beside them has another raw manifest among its inputs."""
    params, inputs = mixed
    for state, listed in (("a", 2), ("b", 3)):
        write_json(inputs["benchmark/hico_det"] / "manifest.json", {"inputs": {"manifest": state}})
        ctx = context(tmp_path, "decontamination", params, inputs, "decontamination")
        assert decontamination_stage(ctx)["listed"] == listed
        scenery(5).resize((300, 200)).save(tmp_path / "raw/hico_det/h4.jpg")


def test_a_missing_or_foreign_list_is_named(tmp_path: Path) -> None:
    for content in (None, "{}x", '["1"]'):
        if content is not None:
            (tmp_path / "test_images.json").write_text(content)
        with pytest.raises(InputError, match=r"test_images\.json is no list"):
            read_listed(tmp_path)


def test_real_datasets_are_decontaminated_by_default_and_drawn_ones_left_as_they_are() -> None:
    assert "decontamination" not in build_registry(Params()).specs

    def registry(**section: Any) -> Any:
        return build_registry(Params.model_validate({"sources": {"coco": {"root": "/data/coco"}}, **section}))

    real = registry()
    assert real.item("pseudo_labels", "coco-0").inputs["decontamination"] == "data/decontamination/coco/bucket-0"
    assert "decontamination" not in real.item("pseudo_labels", "objects365-0").inputs
    assert real.spec("decontamination").partitions == real.spec("pseudo_labels").partitions
    assert {"scenes@v_coco-0", "scenes@hico_det-0", "scenes@open_images-0"} <= set(
        real.parents["decontamination@coco-0"]
    )
    assert "decontamination" not in registry(decontamination={"exclude": False}).specs
