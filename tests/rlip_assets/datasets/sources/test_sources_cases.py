"""Raw datasets as people have them, with the faults that public reports tell of: nothing is wrong without a word."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rlip_assets.datasets.scenes import Scene
from rlip_assets.storage.errors import DataError, InputError, ParameterError
from rlip_assets.storage.quarantine import read_quarantine

SPLITS = {"train": {"annotations": "boxes.json", "images": "photos"}}
PERSON = {"id": 1, "name": "person"}


class Shop:
    """A dataset under `sources.own` of two photos with one box each, to be spoilt."""

    def __init__(self, raw: Any, make_lineage: Any, base: Path) -> None:
        self.raw = raw
        self._make, self._base = make_lineage, base
        self.images: list[dict[str, Any]] = [
            {"id": n, "file_name": f"{name}.jpg", "width": 40, "height": 30} for n, name in ((1, "a"), (2, "b"))
        ]
        self.boxes: list[dict[str, Any]] = [
            {"id": n, "image_id": n, "category_id": n, "bbox": [2, 3, 10, 12], "iscrowd": 0} for n in (1, 2)
        ]
        self.categories = [PERSON, {"id": 2, "name": "cup"}]
        for image in self.images:
            raw.image(f"photos/{image['file_name']}")

    def text(self) -> str:
        return json.dumps({"images": self.images, "annotations": self.boxes, "categories": self.categories})

    def lines(self, limit: float = 1.0, splits: Any = SPLITS, write: bool = True) -> Any:
        if write:
            self.raw.text("boxes.json", self.text())
        own = {"root": str(self.raw.root), "quarantine_limit": limit, "splits": splits}
        return self._make(self._base / "profile", "shop", own=own)

    def result(self, limit: float = 1.0) -> tuple[dict[str, Scene], dict[str, str]]:
        """Rows by file, and reasons by image id."""
        lines = self.lines(limit)
        lines.run()
        rows = {Path(scene.file_name).name: scene for scene in lines.rows().values()}
        return rows, {row.image_id: row.reason for row in lines.quarantined()}


@pytest.fixture
def shop(raw: Any, make_lineage: Any, tmp_path: Path) -> Shop:
    return Shop(raw, make_lineage, tmp_path)


def test_ids_that_both_splits_count_from_zero_stay_apart(raw: Any, make_lineage: Any, tmp_path: Path) -> None:
    for split, count, category in (("train", 30, 1), ("valid", 1, 2)):
        images = [{"id": n, "file_name": f"{split}{n}.jpg", "width": 40, "height": 30} for n in range(count)]
        boxes = [{"id": n, "image_id": n, "category_id": category, "bbox": [category, 2, 10, 10]} for n in range(count)]
        raw.json(
            f"{split}/boxes.json",
            {"images": images, "annotations": boxes, "categories": [PERSON, {"id": 2, "name": "hand"}]},
        )
        for image in images:
            raw.image(f"{split}/{image['file_name']}")
    splits = {
        name: {"annotations": f"{folder}/boxes.json", "images": folder}
        for name, folder in (("train", "train"), ("val", "valid"))
    }
    for buckets in (1, 3):
        own = {"root": str(raw.root), "buckets": buckets, "splits": splits}
        lines = make_lineage(tmp_path / f"profile-{buckets}", "shop", own=own)
        lines.manifest()
        figures = [lines.scenes(bucket) for bucket in range(buckets)]
        assert [figure["quarantined"] for figure in figures] == [0] * buckets
        rows = {key: row for bucket in range(buckets) for key, row in lines.rows(bucket).items()}
        assert set(rows) == {*map(str, range(30)), "val/0"}
        assert all(len(row.labels) == 1 for row in rows.values())
        assert (rows["val/0"].file_name, rows["val/0"].split, rows["val/0"].labels) == (
            "valid/valid0.jpg",
            "val",
            ("hand",),
        )
        assert (rows["0"].file_name, rows["0"].labels) == ("train/train0.jpg", ("person",))


def test_one_id_of_two_files_gives_its_boxes_to_neither(shop: Shop) -> None:
    shop.images.append({"id": 1, "file_name": "c.jpg", "width": 40, "height": 30})
    shop.raw.image("photos/c.jpg")
    rows, reasons = shop.result()
    assert set(rows) == {"b.jpg"}
    assert reasons["1"] == (
        "one image id stands for several files (photos/a.jpg at boxes.json images row 0 and photos/c.jpg at boxes.json images row 2)"
    )


@pytest.mark.parametrize("orientation", [None, 1, 3, 6])
def test_width_and_height_exchanged_need_an_orientation(shop: Shop, orientation: int | None) -> None:
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new("RGB", (40, 30)).save(shop.raw.root / "photos/a.jpg", exif=exif)
    shop.images[0].update(width=30, height=40)
    rows, reasons = shop.result()
    if orientation == 6:
        assert (rows["a.jpg"].width, rows["a.jpg"].height) == (30, 40)
    else:
        assert reasons == {"1": "the file has 40 x 30 pixels (annotated: 30 x 40)"}


@pytest.mark.parametrize(
    ("array", "change", "reason"),
    [
        ("images", {"width": "64px"}, "width is not a whole number of pixels ('64px'; boxes.json images row 0)"),
        ("images", {"height": True}, "height is not a whole number of pixels (True; boxes.json images row 0)"),
        ("images", {"file_name": 7}, "file_name is not a text (7; boxes.json images row 0)"),
        ("images", {"file_name": " "}, "file_name is empty (' '; boxes.json images row 0)"),
        ("boxes", {"iscrowd": "false"}, "iscrowd is neither 0 nor 1 ('false'; boxes.json annotations row 0)"),
        (
            "boxes",
            {"category_id": [1]},
            "category_id is neither a whole number nor a text ([1]; boxes.json annotations row 0)",
        ),
        (
            "boxes",
            {"category_id": 9},
            "annotation 0 has category id 9, which the file does not list (boxes.json images row 0)",
        ),
        (
            "categories",
            {"name": 7},
            "annotation 0 has category id 1, name is not a text (7; boxes.json categories row 0)",
        ),
        ("categories", {"name": ""}, "annotation 0 has category id 1, name is empty (''; boxes.json categories row 0)"),
        (
            "categories",
            {"id": None},
            "annotation 0 has category id 1, which the file does not list: id is neither a whole number",
        ),
    ],
)
def test_one_value_of_a_wrong_type_costs_one_image(shop: Shop, array: str, change: dict[str, Any], reason: str) -> None:
    rows = getattr(shop, array)
    rows[0] = {**rows[0], **change}
    found, reasons = shop.result()
    assert set(found) == {"b.jpg"}
    assert list(reasons) == ["1"]
    assert reasons["1"].startswith(reason)


def test_a_category_id_with_two_names_is_not_used(shop: Shop) -> None:
    shop.categories.append({"id": 1, "name": "plate"})
    rows, reasons = shop.result()
    assert set(rows) == {"b.jpg"}
    assert "it has two names ('person', and 'plate' in boxes.json categories row 2)" in reasons["1"]


@pytest.mark.parametrize("kind", [float, str])
def test_ids_that_a_table_library_wrote_are_joined(shop: Shop, kind: type) -> None:
    for box in shop.boxes:
        box.update(image_id=kind(box["image_id"]), category_id=kind(box["category_id"]))
    rows, reasons = shop.result(limit=0.0)
    assert (set(rows), reasons) == ({"a.jpg", "b.jpg"}, {})
    assert rows["b.jpg"].labels == ("cup",)


def test_ids_that_cannot_be_joined_are_shown_both(shop: Shop) -> None:
    for box, image in zip(shop.boxes, shop.images, strict=True):
        box["image_id"] = image["file_name"]
    _, reasons = shop.result()
    assert reasons["a.jpg"] == (
        "annotations of an image that is not listed (boxes.json annotations row 0): it has the id 'a.jpg', "
        "listed images have ids such as '1'"
    )


def test_not_a_number_in_a_box_costs_the_box(shop: Shop) -> None:
    shop.boxes[0]["bbox"] = [float("nan"), 3, 10, 12]
    shop.boxes.append({**shop.boxes[1], "id": 3})
    lines = shop.lines()
    assert lines.run()["rules"] == {"boxes_not_finite": 1}
    assert [len(scene.labels) for scene in lines.rows().values()] == [0, 2]


def test_a_byte_order_mark_is_read(shop: Shop) -> None:
    lines = shop.lines()
    shop.raw.text("boxes.json", "\ufeff" + shop.text())
    assert lines.run()["images"] == 2


def test_a_file_without_annotations_says_so(shop: Shop) -> None:
    shop.raw.json("boxes.json", {"images": shop.images, "categories": shop.categories})
    with pytest.raises(InputError, match=r"boxes\.json has no array 'annotations', only 'images', 'categories'"):
        shop.lines(write=False).manifest()


def test_reasons_outlive_the_limit(shop: Shop) -> None:
    for image in shop.images:
        (shop.raw.root / "photos" / image["file_name"]).unlink()
    lines = shop.lines(limit=0.01)
    with pytest.raises(DataError, match=r"2 of 2 images are unusable.*the file is missing.*every reason is in .*work"):
        lines.run()
    (table,) = (lines.base / "work").rglob("quarantine.parquet")
    assert [row.file_name for row in read_quarantine(table.parent)] == ["photos/a.jpg", "photos/b.jpg"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"bbox": ["2", "3", "10", "12"]}, "lost 2 of its 2 boxes (2 not four numbers)"),
        ({"bbox": [True, 3, 10, 12]}, "lost 2 of its 2 boxes (2 not four numbers)"),
        ({"bbox": [10**400, 3, 10, 12]}, "lost 2 of its 2 boxes (2 not four numbers)"),
        ({"iscrowd": 1}, "lost 2 of its 2 boxes (2 crowds)"),
        ({"bbox": [20, 20, -10, 12]}, "lost 2 of its 2 boxes (2 turned round or without area)"),
        ({"bbox": [90, 20, 10, 12]}, "lost 2 of its 2 boxes (2 outside the image)"),
        ({"bbox": [0.25, 0.5, 0.25, 0.25]}, "2 of the 2 boxes of the table of shop-0 lie within the first pixel"),
        (
            {"bbox": [15, 8, 35, 28]},
            "2 of the 2 boxes of the table of shop-0 reach far beyond their image: are they x1 y1",
        ),
    ],
)
@pytest.mark.parametrize("limit", [0.01, 1.0])
def test_a_table_without_its_boxes_is_refused(shop: Shop, change: dict[str, Any], why: str, limit: float) -> None:
    for box in shop.boxes:
        box.update(change)
    with pytest.raises(DataError) as caught:
        shop.lines(limit).run()
    assert why in str(caught.value)


def test_pixels_where_fractions_are_wanted_are_refused(raw: Any, make_lineage: Any, tmp_path: Path) -> None:
    raw.text("class-descriptions-boxable.csv", "/m/01g317,Person\n")
    header = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf"
    raw.text("validation-annotations-bbox.csv", f"{header}\na,x,/m/01g317,1,10,50,5,40,0,0,0\n")
    raw.image("validation/a.jpg")
    own = {"root": str(raw.root), "form": "open_images_boxes"}
    with pytest.raises(DataError, match=r"boxes-0 lost 1 of its 1 boxes \(1 not fractions of the image\)"):
        make_lineage(tmp_path / "profile", "boxes", own=own).run()


def test_benchmark_boxes_in_another_form_are_refused(raw: Any, lineage: Callable[..., Any]) -> None:
    boxes = [{"bbox": [20, 20, 5, 6], "category_id": 1}, {"bbox": [10, 20, 15, 4], "category_id": 18}]
    row = {"file_name": "HICO_test2015_1.jpg", "annotations": boxes, "hoi_annotation": []}
    raw.json("annotations/test_hico.json", [row])
    raw.image("images/test2015/HICO_test2015_1.jpg")
    with pytest.raises(DataError, match=r"2 of the 2 boxes of the table of hico_det-0 are turned round"):
        lineage("hico_det").run()


def thing(number: int, names: Any) -> dict[str, Any]:
    return {"object_id": number, "x": 2, "y": 3, "w": 20, "h": 20, "names": names, "synsets": []}


def test_relations_and_objects_without_text_are_counted(raw: Any, lineage: Callable[..., Any]) -> None:
    names: list[Any] = [["man"], "hat", [], None, [None, "x"], [""], [12], 5, {}]
    predicates: list[Any] = [None, 5, "  ", "", [], "wears", "\ud800"]
    links = [{"predicate": text, "subject_id": 0, "object_id": 1} for text in predicates]
    graph = {"image_id": 1, "objects": [thing(n, name) for n, name in enumerate(names)], "relationships": links}
    raw.json("scene_graphs.json", [graph])
    raw.json("image_data.json", [{"image_id": 1, "width": None, "height": None}])
    raw.image("images/1.jpg")
    lines = lineage("visual_genome")
    figures = lines.run()
    (scene,) = lines.rows().values()
    assert (scene.relation, scene.labels, scene.width) == (("wears",), ("man", "hat"), 40)
    assert (figures["rules"]["objects_without_name"], figures["rules"]["relations_without_text"]) == (7, 6)


def test_a_size_of_null_is_that_of_the_picture(raw: Any, lineage: Callable[..., Any]) -> None:
    raw.json("annotations/categories_dict.json", {"obj": ["Person", 5], "rel": ["inside_of"]})
    row = {"bbox": [[2, 3, 20, 30]], "det_labels": [0], "rel": [], "img_size": None, "img_fn": "003e"}
    raw.json("annotations/vrd-train-anno.json", [row, {**row, "img_fn": "003f", "det_labels": [1]}])
    raw.image("images/003e.jpg")
    raw.image("images/003f.jpg")
    lines = lineage("open_images")
    lines.run()
    (scene,) = lines.rows().values()
    assert (scene.image_id, scene.width, scene.height) == ("003e", 40, 30)
    assert lines.quarantined()[0].reason.startswith("a box has label 1, which has no text in categories_dict.json")


OUTSIDE = {
    "../secret.jpg": "the name is no path below the root of its dataset",
    "../../photos/a.jpg": "the name is no path below the root of its dataset",
    "/etc/hostname": "the name is no path below the root of its dataset",
    "link.jpg": "the name leads out of the root of its dataset",
    "folder/secret.jpg": "the name leads out of the root of its dataset",
    "pipe.jpg": "cannot be read (no regular file)",
    "album": "cannot be read (no regular file)",
    "circle.jpg": "the name is no path",
    f"{'x' * 300}.jpg": "the name is no path (File name too long)",
    "a\0.jpg": "the name is no path below the root of its dataset",
    "gone.jpg": "the file is missing",
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_pictures_are_regular_files_below_the_root(shop: Shop, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    photos = shop.raw.root / "photos"
    for place in (outside / "secret.jpg", shop.raw.root.parent / "secret.jpg"):
        Image.new("RGB", (40, 30)).save(place)
    (photos / "link.jpg").symlink_to(outside / "secret.jpg")
    (photos / "folder").symlink_to(outside)
    (photos / "circle.jpg").symlink_to(photos / "circle.jpg")
    (photos / "album").mkdir()
    os.mkfifo(photos / "pipe.jpg")
    shop.images[0]["file_name"] = name
    rows, reasons = shop.result()
    assert set(rows) == {"b.jpg"}
    assert reasons["1"].startswith(OUTSIDE[name])


def test_links_inside_the_root_and_to_a_cache_of_dvc_are_followed(shop: Shop, tmp_path: Path) -> None:
    photos, cached = shop.raw.root / "photos", tmp_path / "cache/files/md5/0a" / ("1b" * 15)
    cached.parent.mkdir(parents=True)
    (photos / "a.jpg").rename(cached)
    (photos / "a.jpg").symlink_to(cached)
    (photos / "b.jpg").rename(photos / "c.jpg")
    (photos / "b.jpg").symlink_to("c.jpg")
    rows, reasons = shop.result(limit=0.0)
    assert (set(rows), reasons) == ({"a.jpg", "b.jpg"}, {})


def test_images_of_a_split_lie_below_the_root(shop: Shop) -> None:
    for key, path in (("images", "../photos"), ("annotations", "/boxes.json")):
        splits = {"train": {**SPLITS["train"], key: path}}
        with pytest.raises(
            ParameterError, match=rf"sources\.own\.shop\.splits\.train\.{key} is '{path}'; give a path below"
        ):
            shop.lines(splits=splits).manifest()


@pytest.mark.parametrize("image_id", ["../1", "x" * 300, "a\0b", "1/../../1"])
def test_an_id_that_is_no_name_of_a_file_costs_one_image(raw: Any, lineage: Callable[..., Any], image_id: str) -> None:
    graphs = [{"image_id": key, "objects": [thing(1, "man")], "relationships": []} for key in (image_id, 2)]
    raw.json("scene_graphs.json", graphs)
    raw.image("images/2.jpg")
    raw.image("1.jpg")
    lines = lineage("visual_genome")
    lines.run()
    assert set(lines.rows()) == {"2"}
    (row,) = lines.quarantined()
    assert row.reason.startswith("the name is no path")


def test_a_deep_row_costs_one_image(shop: Shop) -> None:
    shop.raw.text("boxes.json", shop.text().replace('"iscrowd": 0', f'"iscrowd": {"[" * 5000 + "]" * 5000}', 1))
    lines = shop.lines(write=False)
    lines.run()
    reasons = {row.image_id: row.reason for row in lines.quarantined()}
    assert reasons == {"": "the row is not an object (a value nested too deeply; boxes.json annotations row 0)"}
    assert set(lines.rows()) == {"2"}
