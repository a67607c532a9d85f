"""COCO-form readers: COCO, Objects365 and a user's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlip_assets.datasets.scenes import bucket_of
from rlip_assets.datasets.sources.coco_style import CocoStyleReader
from rlip_assets.datasets.sources.manifests import read_manifest
from rlip_assets.datasets.sources.readers import RawImage
from rlip_assets.datasets.sources.record_index import RecordIndex
from rlip_assets.lineage.params.rehearsal import RehearsalParams
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.images import check_image
from tests.support.coco_form import box, image, instances


@pytest.fixture
def coco(raw: Any) -> Any:
    annotations = [
        box(1, 7, 18, [1, 2, 10, 12]),
        box(2, 7, 1, [-3, 5, 20.5, 10]),  # sticks out on the left
        box(3, 7, 1, [5, 5, 0, 10]),  # no width
        box(4, 7, 1, [100, 5, 10, 10]),  # outside
        box(5, 7, 1, [5, 5, None, 10]),  # no number
        box(6, 7, 1, [0, 0, 40, 30], crowd=1),
        box(7, 9, 1, [0, 0, 40, 30], crowd=1),  # an image of crowds alone stays, without boxes
    ]
    raw.json("annotations/instances_train2017.json", instances([image(7), image(8), image(9)], annotations))
    raw.json(
        "annotations/instances_val2017.json",
        instances([image(11)], [box(n, 11, 1, [0, 0, 4, 4]) for n in range(8, 12)]),
    )
    for name in ("train2017/000000000007", "train2017/000000000008", "train2017/000000000009", "val2017/000000000011"):
        raw.image(f"{name}.jpg")
    return raw


def test_a_rehearsal_lists_the_first_images_of_each_split(coco: Any, lineage: Callable[..., Any]) -> None:
    lines = lineage("coco")
    whole = lines.manifest()
    lines.params = lines.params.model_copy(update={"rehearsal": RehearsalParams(images=1, steps=1)})
    figures = lines.run()
    assert list(lines.rows()) == ["7", "11"]
    assert (figures["input"], figures["images"]) == (2, 2)
    assert whole["images"] - lines.manifest()["images"] == lines.manifest()["left_out_by_rehearsal"] == 1


def test_boxes_are_cleaned_by_counted_rules(coco: Any, lineage: Callable[..., Any]) -> None:
    lines = lineage("coco")
    figures = lines.run()
    rows = lines.rows()
    assert list(rows) == ["7", "9", "11"]
    assert rows["7"].labels == ("dog", "person")
    np.testing.assert_array_equal(rows["7"].boxes, np.array([[1, 2, 11, 14], [0, 5, 17.5, 15]], np.float32))
    assert (rows["7"].split, rows["11"].split) == ("train", "val")
    assert rows["7"].file_name == "train2017/000000000007.jpg"
    assert rows["9"].labels == ()
    assert figures["rules"] == {
        "boxes_clipped": 1,
        "boxes_inverted": 1,
        "boxes_outside": 1,
        "boxes_not_finite": 1,
        "boxes_crowd": 2,
    }
    assert (figures["input"], figures["images"], figures["quarantined"], figures["boxes"]) == (3, 3, 0, 6)


def test_images_without_annotations_are_counted_and_not_listed(coco: Any, lineage: Callable[..., Any]) -> None:
    figures = lineage("coco").manifest()
    assert (figures["images"], figures["unused"], figures["images_train"], figures["images_val"]) == (3, 1, 2, 1)


def test_classes_follow_explicit_ids(coco: Any, lineage: Callable[..., Any]) -> None:
    lines = lineage("coco")
    lines.manifest()
    assert lines.classes.objects == ["person", "dog"]
    assert lines.classes.relations is None


def test_unusable_images_are_quarantined_with_their_reason(coco: Any, lineage: Callable[..., Any]) -> None:
    broken = instances(
        [image(7), image(8), image(9), image(10), image(12), image(7), image(13, (39, 30))],
        [
            box(1, 7, 18, [1, 2, 10, 12]),
            box(2, 8, 99, [1, 2, 10, 12]),  # unknown category
            box(3, 9, 1, [1, 2, 10, 12]),  # truncated file
            box(4, 10, 1, [1, 2, 10, 12]),  # missing file
            box(5, 12, 1, [1, 2, 10, 12]),  # no image at all
            box(6, 99, 1, [1, 2, 10, 12]),  # annotation of an unlisted image
            box(7, 13, 1, [1, 2, 10, 12]),  # other size
        ],
    )
    coco.json("annotations/instances_train2017.json", broken)
    whole = coco.image("train2017/000000000009.jpg", (400, 300))
    whole.write_bytes(whole.read_bytes()[:900])
    coco.text("train2017/000000000012.jpg", "this is text")
    coco.image("train2017/000000000013.jpg")
    lines = lineage("coco")
    figures = lines.run()
    reasons = {(row.image_id, row.file_name): row.reason for row in lines.quarantined()}
    assert list(lines.rows()) == ["7", "11"]
    assert "category id 99" in reasons["8", "train2017/000000000008.jpg"]
    assert "annotations/instances_train2017.json images row 1" in reasons["8", "train2017/000000000008.jpg"]
    assert "truncated" in reasons["9", "train2017/000000000009.jpg"]
    assert reasons["10", "train2017/000000000010.jpg"] == "the file is missing"
    assert "no image of a known format" in reasons["12", "train2017/000000000012.jpg"]
    assert "40 x 30 pixels (annotated: 39 x 30)" in reasons["13", "train2017/000000000013.jpg"]
    assert reasons["7", ""] == (
        "image id appears twice (annotations/instances_train2017.json images row 5; "
        "first at annotations/instances_train2017.json images row 0)"
    )
    assert "not listed (annotations/instances_train2017.json annotations row 5)" in reasons["99", ""]
    assert figures["input"] == figures["images"] + figures["quarantined"] == 9


def test_too_many_unusable_images_fail_the_stage(coco: Any, lineage: Callable[..., Any]) -> None:
    (coco.root / "train2017/000000000007.jpg").unlink()
    with pytest.raises(
        DataError, match=r"1 of 3 images are unusable, more than the allowed 10\.0%.*the file is missing.*7\.jpg"
    ):
        lineage("coco", quarantine_limit=0.1).run()


def test_a_new_image_changes_only_its_own_bucket(coco: Any, lineage: Callable[..., Any]) -> None:
    lines = lineage("coco", buckets=4)
    lines.manifest()
    before = {path.name: path.read_bytes() for path in lines.manifests.iterdir()}
    listed = {
        i for k in range(4) for i in [x.image_id for x in read_manifest(lines.manifests / f"bucket-{k}.json").images]
    }
    assert listed == {"7", "9", "11"}
    coco.json(
        "annotations/instances_val2017.json",
        instances(
            [image(11), image(123)],
            [*(box(n, 11, 1, [0, 0, 4, 4]) for n in range(8, 12)), box(9, 123, 1, [0, 0, 4, 4])],
        ),
    )
    coco.image("val2017/000000000123.jpg")
    lines.manifest()
    after = {path.name: path.read_bytes() for path in lines.manifests.iterdir()}
    assert {name for name in after if after[name] != before[name]} == {f"bucket-{bucket_of('123', 4)}.json"}


def test_a_changed_image_or_record_changes_its_line(coco: Any, lineage: Callable[..., Any]) -> None:
    lines = lineage("coco")
    lines.manifest()
    first = {row.image_id: row for row in read_manifest(lines.manifests / "bucket-0.json").images}
    coco.image("val2017/000000000011.jpg", (30, 40))
    coco.json(
        "annotations/instances_train2017.json",
        instances([image(7), image(9)], [box(1, 7, 18, [1, 2, 10, 13]), box(7, 9, 1, [0, 0, 40, 30], crowd=1)]),
    )
    lines.manifest()
    second = {row.image_id: row for row in read_manifest(lines.manifests / "bucket-0.json").images}
    assert first["9"] == second["9"]
    assert first["7"].sha256 == second["7"].sha256
    assert first["7"].record != second["7"].record
    assert first["11"].sha256 != second["11"].sha256
    assert first["11"].record == second["11"].record


def test_scenes_refuse_raw_data_other_than_the_manifest(coco: Any, lineage: Callable[..., Any]) -> None:
    lines = lineage("coco")
    lines.manifest()
    coco.image("train2017/000000000007.jpg", (41, 30))
    with pytest.raises(
        InputError, match=r"000000000007\.jpg changed since its manifest was made; run the raw_manifest stage"
    ):
        lines.scenes()
    coco.image("train2017/000000000007.jpg")
    coco.json("annotations/instances_train2017.json", instances([image(7)], [box(1, 7, 18, [1, 2, 10, 13])]))
    with pytest.raises(InputError, match="annotation of image 7 of coco changed since its manifest"):
        lines.scenes()


def test_the_same_raw_data_gives_the_same_bytes(coco: Any, lineage: Callable[..., Any], tmp_path: Path) -> None:
    lines = lineage("coco")
    lines.run()
    first = {path.name: path.read_bytes() for path in [*lines.table().iterdir(), *lines.manifests.iterdir()]}
    lines.base = tmp_path / "elsewhere"
    lines.manifests = lines.base / "manifests"
    lines.run()
    assert {p.name: p.read_bytes() for p in [*lines.table().iterdir(), *lines.manifests.iterdir()]} == first


def test_a_killed_stage_goes_on_at_its_shard_and_new_images_are_new_work_for_theirs(
    coco: Any, lineage: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlip_assets.datasets.sources import checked_scene, stage

    monkeypatch.setattr(stage, "ROWS_PER_SHARD", 1)
    undisturbed = lineage("coco")
    undisturbed.run()
    killed = lineage("coco")
    killed.base = undisturbed.base / "again"
    killed.manifests = undisturbed.manifests
    decoded: list[str] = []
    check = check_image

    def dies_at_the_third(path: Path) -> tuple[int, int]:
        if len(decoded) == 2:
            raise KeyboardInterrupt
        decoded.append(path.name)
        return check(path)

    monkeypatch.setattr(checked_scene, "check_image", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        killed.scenes()
    monkeypatch.setattr(checked_scene, "check_image", lambda path: (decoded.append(path.name), check(path))[1])
    killed.scenes()
    assert decoded.count(decoded[0]) == 1  # its shard was whole when the run was killed
    assert len(set(decoded)) == 3
    tables = [{path.name: path.read_bytes() for path in lines.table().iterdir()} for lines in (killed, undisturbed)]
    assert tables[0] == tables[1]

    decoded.clear()
    coco.json(
        "annotations/instances_val2017.json",
        instances(
            [image(11), image(12)], [*(box(n, 11, 1, [0, 0, 4, 4]) for n in range(8, 12)), box(9, 12, 1, [0, 0, 4, 4])]
        ),
    )
    coco.image("val2017/000000000012.jpg")
    killed.run()
    assert "000000000012.jpg" in decoded
    assert len(decoded) < 4
    assert set(killed.rows()) == {"7", "9", "11", "12"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "fi', "ends after 1 whole rows of the array 'images'"),
        ('{"images": [{"id": 7}, 8,], "annotations": []}', "not valid JSON after 2 whole rows of the array 'images'"),
        (
            '{"images": [], "annotations": [{"id": 7}, {"id": 8]}',
            r"after 1 whole rows of the array 'annotations' \(.* at character 5",
        ),
        ('{"images": [], "annotations": [{"id": 7}, {"i', "ends after 1 whole rows of the array 'annotations'"),
        ('{"images": []}', "has no array 'annotations', only 'images'"),
        ('{"images": [], "annotations": null}', "'annotations' is null, not a list"),
        ('[{"id": 7}]', "is a list, not an object with 'images' and 'annotations'"),
        ("", "is empty"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no usable image of coco"),
    ],
)
def test_damaged_annotation_files_are_refused(
    raw: Any, lineage: Callable[..., Any], content: str, message: str
) -> None:
    raw.text("annotations/instances_train2017.json", content)
    with pytest.raises((InputError, DataError), match=message):
        lineage("coco").manifest()


def test_bytes_that_are_not_utf8_are_refused(raw: Any, lineage: Callable[..., Any]) -> None:
    path = raw.text("annotations/instances_train2017.json", "")
    path.write_bytes(b'{"images": [{"id": 1, "file_name": "a\xff\xfe.jpg"}]}')
    with pytest.raises(InputError, match=r"instances_train2017\.json is not UTF-8"):
        lineage("coco").manifest()


def test_a_missing_root_or_layout_is_named(raw: Any, lineage: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds none of annotations/instances_train2017.json.*sources\.coco\.root"):
        lineage("coco").manifest()
    with pytest.raises(InputError, match=r"has no folder .*nowhere; set sources\.coco\.root"):
        lineage("coco", root=str(tmp_path / "nowhere")).manifest()


def test_objects365_patches_names_and_invalid_images(raw: Any, lineage: Callable[..., Any]) -> None:
    categories = [
        {"id": 38, "name": "Moniter/TV"},
        {"id": 308, "name": "Campel"},
        {"id": 1, "name": "Person"},
        {"id": 365, "name": "Table Tennis "},
        {"id": 53, "name": "Own Name"},
    ]
    images = [
        image(420917, name="images/v1/patch8/objects365_v1_00420917.jpg"),
        image(900461, name="images/v2/patch16/objects365_v2_00900461.jpg"),
        image(908726, name="images/v2/patch16/objects365_v2_00908726.jpg"),
    ]
    annotations = [
        box(n, i, c, [1, 1, 5, 5]) for n, (i, c) in enumerate([(420917, 38), (900461, 308), (900461, 53), (908726, 1)])
    ]
    raw.json("train/zhiyuan_objv2_train.json", instances(images, annotations, categories))
    raw.image("train/patch8/objects365_v1_00420917.jpg")
    raw.image("train/patch16/objects365_v2_00900461.jpg")
    lines = lineage("objects365")
    figures = lines.run()
    rows = lines.rows()
    assert rows["420917"].file_name == "train/patch8/objects365_v1_00420917.jpg"
    assert rows["420917"].labels == ("monitor/tv",)
    assert rows["900461"].labels == ("camel", "own name")
    assert figures["input"] == 2
    assert lines.classes.objects == ["person", "monitor/tv", "own name", "camel", "table tennis"]


def test_objects365_v1_alone(raw: Any, lineage: Callable[..., Any]) -> None:
    """Its ids stand for other names than those of v2: names are read from the file and never corrected by the wrong id."""
    name = "obj365_train_000000420917.jpg"
    categories = [{"id": 308, "name": "Moniter/TV"}, {"id": 1, "name": "human"}]
    raw.json(
        "annotations/objects365_train.json", instances([image(1, name=name)], [box(1, 1, 1, [1, 1, 5, 5])], categories)
    )
    raw.image(f"train/{name}")
    lines = lineage("objects365")
    assert lines.run()["images"] == 1
    assert (lines.rows()["1"].file_name, lines.rows()["1"].labels) == (f"train/{name}", ("human",))
    assert lines.classes.objects == ["human", "moniter/tv"]


def test_any_detection_dataset_in_coco_form(raw: Any, tmp_path: Path) -> None:
    raw.json("labels/shop.json", instances([image(1, name="a/b.jpg")], [box(1, 1, 18, [1, 2, 3, 4])]))
    reader = CocoStyleReader("shop", raw.root, {"train": ("labels/shop.json", "photos")})
    (found,) = RecordIndex(reader, 1, tmp_path / "cache").images(0)
    assert isinstance(found, RawImage)
    assert found.file_name == "photos/a/b.jpg"
    from collections import Counter

    scene = reader.scene(found, (40, 30), reader.classes(Counter()), Counter())
    assert (scene.dataset, scene.labels, scene.boxes.tolist()) == ("shop", ("dog",), [[1, 2, 4, 6]])
