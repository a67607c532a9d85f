"""The instances file of images, boxes and categories that COCO, Objects365 and V-COCO share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rlip_assets.datasets.sources.classes import coco_names
from rlip_assets.micro_world.picture import Picture, Thing
from rlip_assets.micro_world.world import CATEGORIES
from rlip_assets.micro_world.writers import corner_box


class Instances:
    """Builder of an instances file; `category_of` gives the id of a thing, None to leave it out."""

    def __init__(
        self, categories: list[dict[str, Any]], category_of: Callable[[Thing], int | None], first_box: int = 1
    ) -> None:
        self._category_of = category_of
        self._next_box = first_box
        self.content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": categories}

    def add(self, image_id: int, file_name: str, picture: Picture) -> dict[int, int]:
        """Append an image and its boxes; returns thing index -> box id."""
        size = {"width": picture.width, "height": picture.height}
        self.content["images"].append({"id": image_id, "file_name": file_name, **size, "license": 1})
        ids = {}
        for number, thing in enumerate(picture.things):
            category = self._category_of(thing)
            if category is None:
                continue
            x, y, width, height = corner_box(thing.box)
            self.content["annotations"].append(
                {
                    "id": self._next_box,
                    "image_id": image_id,
                    "category_id": category,
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
            ids[number] = self._next_box
            self._next_box += 1
        return ids


def coco_categories() -> list[dict[str, Any]]:
    """All 80 categories of COCO, as in its instances files."""
    return [{"id": number, "name": name} for number, name in coco_names().items()]


def coco_category(thing: Thing) -> int | None:
    """COCO id of a thing."""
    return CATEGORIES[thing.category].coco_id
