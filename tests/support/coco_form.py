"""Annotation files of COCO's form, row by row."""

from __future__ import annotations

from typing import Any

CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}]


def instances(images: list[dict[str, Any]], annotations: list[dict[str, Any]], categories: Any = CATEGORIES) -> Any:
    return {"images": images, "annotations": annotations, "categories": categories}


def image(number: int, size: tuple[int, int] = (40, 30), name: str | None = None) -> dict[str, Any]:
    return {"id": number, "file_name": name or f"{number:012d}.jpg", "width": size[0], "height": size[1]}


def box(number: int, image_id: int, category: int, bbox: list[Any], crowd: int = 0) -> dict[str, Any]:
    return {"id": number, "image_id": image_id, "category_id": category, "bbox": bbox, "iscrowd": crowd, "area": 1.0}
