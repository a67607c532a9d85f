"""One wrong value of any JSON type, in any field of any row: no reader stops, and the images of all other rows are read as before."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from rlip_assets.datasets.scenes import Scene

SIZE = (40, 30)
IMAGES = (710001, 710002, 710003)
CORNER, CORNERS = [5.5, 4, 20, 12], [5.5, 4, 25.5, 16]
COCO_IDS, COCO_NAMES = (1, 18, 44), ("person", "dog", "bottle")


@dataclass
class Raw:
    """A raw dataset with three images of three boxes each.

    Attributes:
        dataset: name of the dataset.
        pictures: image id -> file below the root.
        files: annotation file -> its content: a list of rows, or arrays of rows by key.
        owner: the image of a row.
        own: parameters of a dataset under `sources.own`.
        plain: further files with their text.
        whole: files of which a row that is no row at all ends the dataset: nothing tells what is lost with it.
    """

    dataset: str
    pictures: dict[str, str]
    files: dict[str, Any]
    owner: Callable[[str, int], str] = lambda array, row: str(IMAGES[row % 3])
    own: dict[str, Any] | None = None
    plain: dict[str, str] = field(default_factory=dict)
    whole: tuple[str, ...] = ()

    def write(self, root: Path, files: dict[str, Any]) -> None:
        for name, content in {**files, **self.plain}.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                content if isinstance(content, str) else table(content) if name.endswith("csv") else json.dumps(content)
            )


def table(rows: list[dict[str, Any]]) -> str:
    """A CSV file; what is not a text is written as JSON."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    columns = list(dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row))
    writer.writerow(columns)
    for row in rows:
        cells = [row.get(key, "") for key in columns] if isinstance(row, dict) else [row]
        writer.writerow([cell if isinstance(cell, str) else json.dumps(cell) for cell in cells])
    return stream.getvalue().encode("utf-8", "replace").decode()


def coco_form(name: Callable[[int], str]) -> dict[str, Any]:
    return {
        "images": [{"id": key, "file_name": name(key), "width": SIZE[0], "height": SIZE[1]} for key in IMAGES],
        "annotations": [
            {
                "id": 90000 + n,
                "image_id": IMAGES[n % 3],
                "category_id": 8101 + n % 3,
                "bbox": CORNER,
                "iscrowd": 0,
                "area": 9.5,
            }
            for n in range(9)
        ],
        "categories": [{"id": 8101 + n, "name": f"thing {n}", "supercategory": "all"} for n in range(3)],
    }


def coco() -> Raw:
    pictures = {str(key): f"train2017/{key}.jpg" for key in IMAGES}
    return Raw("coco", pictures, {"annotations/instances_train2017.json": coco_form(lambda key: f"{key}.jpg")})


def objects365() -> Raw:
    pictures = {str(key): f"train/patch1/{key}.jpg" for key in IMAGES}
    return Raw(
        "objects365", pictures, {"train/zhiyuan_objv2_train.json": coco_form(lambda key: f"images/v2/patch1/{key}.jpg")}
    )


def own() -> Raw:
    pictures = {str(key): f"photos/{key}.jpg" for key in IMAGES}
    settings = {"splits": {"train": {"annotations": "boxes.json", "images": "photos"}}}
    return Raw("shop", pictures, {"boxes.json": coco_form(lambda key: f"{key}.jpg")}, own=settings)


def visual_genome() -> Raw:
    graphs = [
        {
            "image_id": key,
            "objects": [
                {
                    "object_id": key * 10 + n,
                    **dict(zip("xywh", CORNER, strict=True)),
                    "names": [f"thing {n}", "other"],
                    "synsets": [],
                }
                for n in range(3)
            ],
            "relationships": [
                {
                    "relationship_id": key * 10 + n,
                    "predicate": f"near {n}",
                    "subject_id": key * 10,
                    "object_id": key * 10 + 1 + n,
                }
                for n in range(2)
            ],
        }
        for key in IMAGES
    ]
    sizes = [{"image_id": key, "width": SIZE[0], "height": SIZE[1], "coco_id": None} for key in IMAGES]
    return Raw(
        "visual_genome",
        {str(key): f"VG_100K/{key}.jpg" for key in IMAGES},
        {"scene_graphs.json": graphs, "image_data.json": sizes},
    )


def hico_det() -> Raw:
    names = {str(key): f"HICO_test2015_{key}" for key in IMAGES}
    rows = [
        {
            "file_name": f"{name}.jpg",
            "img_id": int(key),
            "annotations": [{"bbox": CORNERS, "category_id": category} for category in COCO_IDS],
            "hoi_annotation": [
                {"subject_id": 0, "object_id": n, "category_id": 73 + n, "hoi_category_id": 153} for n in (1, 2)
            ],
        }
        for key, name in names.items()
    ]
    pictures = {name: f"images/test2015/{name}.jpg" for name in names.values()}
    return Raw("hico_det", pictures, {"annotations/test_hico.json": rows}, lambda array, row: names[str(IMAGES[row])])


def open_images() -> Raw:
    rows = [
        {
            "img_fn": f"{key}",
            "img_size": [*SIZE],
            "bbox": [CORNERS] * 3,
            "det_labels": [0, 1, 2],
            "rel": [[0, 1, 0], [1, 2, 1]],
        }
        for key in IMAGES
    ]
    plain = {"annotations/categories_dict.json": json.dumps({"obj": ["Man", "Cup", "Dog"], "rel": ["at", "holds"]})}
    pictures = {str(key): f"images/{key}.jpg" for key in IMAGES}
    return Raw("open_images", pictures, {"annotations/vrd-train-anno.json": rows}, plain=plain)


def open_images_boxes() -> Raw:
    sides = {"XMin": "0.1", "XMax": "0.5", "YMin": "0.2", "YMax": "0.6"}
    rows = [
        {"ImageID": f"{IMAGES[n % 3]}", "LabelName": f"/m/{n % 3}", **sides, "IsGroupOf": "0", "IsDepiction": "0"}
        for n in range(9)
    ]
    plain = {"class-descriptions-boxable.csv": "".join(f"/m/{n},Thing {n}\n" for n in range(3))}
    pictures = {str(key): f"train/{key}.jpg" for key in IMAGES}
    settings = {"form": "open_images_boxes", "splits": {}}
    return Raw("boxes", pictures, {"oidv6-train-annotations-bbox.csv": rows}, own=settings, plain=plain)


def v_coco() -> Raw:
    names = {key: f"COCO_train2014_{key}.jpg" for key in IMAGES}
    boxes = [
        {"id": 500 + n, "image_id": IMAGES[n % 3], "category_id": COCO_IDS[n // 3], "bbox": CORNER, "iscrowd": 0}
        for n in range(9)
    ]
    images = [{"id": key, "file_name": name, "width": SIZE[0], "height": SIZE[1]} for key, name in names.items()]
    actions = [
        {
            "action_name": "kick",
            "role_name": ["agent", "obj"],
            "include": [[], []],
            "image_id": [key, key],
            "ann_id": [500 + n, 503 + n],
            "label": [1, 0],
            "role_object_id": [500 + n, 503 + n, 503 + n, 0],
        }
        for n, key in enumerate(IMAGES)
    ]
    files = {"vcoco_trainval.json": actions, "instances_vcoco_all_2014.json": {"images": images, "annotations": boxes}}
    plain = {"splits/vcoco_trainval.ids": "".join(f"{key}\n" for key in IMAGES)}
    return Raw(
        "v_coco",
        {str(key): f"images/train2014/{name}" for key, name in names.items()},
        files,
        plain=plain,
        whole=("vcoco_trainval.json",),
    )


READERS = (coco, objects365, own, visual_genome, hico_det, open_images, open_images_boxes, v_coco)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(
        [
            0,
            1,
            -1,
            10**30,
            -(10**400),
            2**63,
            1e300,
            1e-300,
            0.5,
            "",
            " ",
            "7",
            "1.0",
            "../x.jpg",
            "/etc/passwd",
            "x" * 400,
        ]
    )
    | st.floats()
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
GONE = object()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of a value and of everything in it."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def rows_of(raw: Raw) -> list[tuple[str, tuple[Any, ...], int]]:
    """(file, path to the row, row number) of all rows."""
    found = []
    for name, content in raw.files.items():
        for array, rows in content.items() if isinstance(content, dict) else [(None, content)]:
            found += [(name, (number,) if array is None else (array, number), number) for number in range(len(rows))]
    return found


def prepare(raw: Raw, root: Path, profile: Path, lineage: Any) -> Any:
    """Write a raw dataset and return the stages on it, in a profile of their own."""
    for name in raw.pictures.values():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if not (root / name).exists():
            Image.new("RGB", SIZE, (90, 100, 200)).save(root / name)
    raw.write(root, raw.files)
    settings = {"root": str(root), "quarantine_limit": 1.0}
    if raw.own is None:
        return lineage(profile, raw.dataset, **settings)
    return lineage(profile, raw.dataset, own={**settings, **raw.own})


class Harness:
    """A raw dataset on disk, and the tables that are made of it with one value changed."""

    def __init__(self, raw: Raw, base: Path, lineage: Any) -> None:
        self.raw, self.base, self.root, self.lineage = raw, base, base / "raw", lineage
        self.lines = prepare(raw, self.root, base / "profile", lineage)
        self.good = self.table(raw.files)
        assert set(self.good) == set(raw.pictures)
        assert all(len(scene.labels) == 3 for scene in self.good.values())

    def table(self, files: dict[str, Any]) -> dict[str, Scene]:
        self.raw.write(self.root, files)
        figures = self.lines.run()
        assert figures["input"] == figures["images"] + figures["quarantined"]
        return self.lines.rows()

    def changed(self, data: st.DataObject) -> None:
        """Change one value of one row, and compare the images of the other rows."""
        name, path, number = data.draw(st.sampled_from(rows_of(self.raw)))
        files = json.loads(json.dumps(self.raw.files))
        row = files[name]
        for key in path:
            row = row[key]
        place = (*path, *data.draw(st.sampled_from(list(places(row)))))
        value = data.draw(st.just(GONE) | VALUES)
        parent = files[name]
        for key in place[:-1]:
            parent = parent[key]
        if value is GONE:
            del parent[place[-1]]
        else:
            parent[place[-1]] = value
        if place == path and (value is GONE or name in self.raw.whole):
            return
        owner = self.raw.owner(str(path[0]), number)
        found = self.table(files)
        if (
            path[0] == "categories"
        ):  # which the rows of all images follow from: nothing of an earlier example may be left
            with TemporaryDirectory(dir=self.base) as profile:
                anew = prepare(replace(self.raw, files=files), self.root, Path(profile), self.lineage)
                anew.run()
                assert (found, self.lines.quarantined()) == (anew.rows(), anew.quarantined())
        for key in set(self.good) - {owner}:
            assert found.get(key) == self.good[key], (place, value)


def check(make: Callable[[], Raw], examples: int, lineage: Any, base: Path) -> None:
    harness = Harness(make(), base, lineage)

    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.data())
    def run(data: st.DataObject) -> None:
        harness.changed(data)

    run()


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here outlives the test, so nothing waits for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.parametrize("make", READERS)
def test_one_wrong_value_loses_no_other_row(make: Callable[[], Raw], make_lineage: Any, tmp_path: Path) -> None:
    check(make, 15, make_lineage, tmp_path)


@pytest.mark.deep
@pytest.mark.parametrize("make", READERS)
def test_five_thousand_wrong_values_lose_no_other_row(
    make: Callable[[], Raw], make_lineage: Any, tmp_path: Path
) -> None:
    check(make, 5_000 // len(READERS), make_lineage, tmp_path)
