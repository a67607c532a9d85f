"""Small raw datasets in the official layouts, in which nothing is wrong: ten images per split."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

SIZE = (40, 30)
NUMBER = 10
BOX = [2, 3, 20, 15]
"""x y width height."""
CORNERS = [2, 3, 22, 18]


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def change_json(path: Path, change: Callable[[Any], None]) -> None:
    """Apply `change` to the content of a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)


def draw(paths: Sequence[Path]) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise(SIZE, 50).convert("RGB").save(path, "JPEG")


def image_row(number: int, name: str) -> dict[str, Any]:
    return {"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1]}


def box_row(number: int, category: int = 1, key: int | None = None) -> dict[str, Any]:
    return {
        "id": number if key is None else key,
        "image_id": number,
        "category_id": category,
        "bbox": BOX,
        "iscrowd": 0,
        "area": 300,
    }


def instances(numbers: Sequence[int], names: Sequence[str], category: str) -> dict[str, Any]:
    return {
        "images": [image_row(*pair) for pair in zip(numbers, names, strict=True)],
        "annotations": [box_row(number) for number in numbers],
        "categories": [{"id": 1, "name": category}],
    }


def visual_genome(root: Path) -> None:
    graph = {
        "objects": [{"object_id": key, "x": 1, "y": 1, "w": 20, "h": 10, "names": ["Man"]} for key in (1, 2)],
        "relationships": [{"predicate": "ON", "subject_id": 1, "object_id": 2, "relationship_id": 1}],
    }
    numbers = range(1, NUMBER + 1)
    write_json(root / "scene_graphs.json", [{"image_id": number, **graph} for number in numbers])
    write_json(root / "image_data.json", [{"image_id": n, "width": SIZE[0], "height": SIZE[1]} for n in numbers])
    for name in ("object_alias.txt", "relationship_alias.txt"):
        (root / name).write_text("man, guy\n")
    draw([root / f"images/{number}.jpg" for number in numbers])


def coco(root: Path) -> None:
    for split, start in (("train", 1), ("val", 101)):
        numbers = range(start, start + NUMBER)
        names = [f"{number:012d}.jpg" for number in numbers]
        write_json(root / f"annotations/instances_{split}2017.json", instances(numbers, names, "person"))
        draw([root / f"{split}2017" / name for name in names])


def objects365(root: Path) -> None:
    for split, start in (("train", 1), ("val", 101)):
        numbers = range(start, start + NUMBER)
        places = [f"patch{number % 2}/objects365_v2_{number:08d}.jpg" for number in numbers]
        names = [f"images/v2/{place}" for place in places]
        write_json(root / split / f"zhiyuan_objv2_{split}.json", instances(numbers, names, "Person"))
        draw([root / split / place for place in places])


def hico_det(root: Path) -> None:
    for split, name in (("train", "trainval"), ("test", "test")):
        names = [f"HICO_{split}2015_{number:08d}.jpg" for number in range(1, NUMBER + 1)]
        boxes = [{"bbox": CORNERS, "category_id": category} for category in (1, 2)]
        pair = {"subject_id": 0, "object_id": 1, "category_id": 1, "hoi_category_id": 1}
        rows = [{"file_name": each, "annotations": boxes, "hoi_annotation": [pair]} for each in names]
        write_json(root / f"annotations/{name}_hico.json", rows)
        draw([root / f"images/{split}2015" / each for each in names])


def v_coco(root: Path) -> None:
    splits = {"trainval": range(1, NUMBER + 1), "test": range(101, 101 + NUMBER)}
    names: dict[int, str] = {}
    for split, numbers in splits.items():
        part = "train2014" if split == "trainval" else "val2014"
        names |= {number: f"COCO_{part}_{number:012d}.jpg" for number in numbers}
        action = {
            "action_name": "hold",
            "role_name": ["agent", "obj"],
            "image_id": list(numbers),
            "ann_id": list(numbers),
            "label": [1] * NUMBER,
            "role_object_id": [*numbers, *(number + 1000 for number in numbers)],
        }
        write_json(root / f"data/vcoco/vcoco_{split}.json", [action])
        listed = root / f"data/splits/vcoco_{split}.ids"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("\n".join(map(str, numbers)))
        draw([root / f"images/{part}" / names[number] for number in numbers])
    content = instances(list(names), list(names.values()), "person")
    content["annotations"] += [box_row(number, 2, number + 1000) for number in names]
    write_json(root / "data/instances_vcoco_all_2014.json", content)


def open_images(root: Path) -> None:
    write_json(root / "annotations/categories_dict.json", {"obj": ["Person", "Cup"], "rel": ["holds", "inside_of"]})
    for start, split in enumerate(("train", "val", "test")):
        names = [f"{start * 100 + number:016x}" for number in range(NUMBER)]
        rows = [
            {"img_fn": name, "img_size": [*SIZE], "bbox": [CORNERS] * 2, "det_labels": [0, 1], "rel": [[0, 1, 0]]}
            for name in names
        ]
        write_json(root / f"annotations/vrd-{split}-anno.json", rows)
        draw([root / f"images/{name}.jpg" for name in names])


WRITERS = {writer.__name__: writer for writer in (visual_genome, coco, objects365, hico_det, v_coco, open_images)}
