"""Images that two datasets share: V-COCO uses those of COCO, and Visual Genome names the COCO image of half of its own."""

from __future__ import annotations

from pathlib import Path

from rlip_assets.datasets.sources.json_stream import stream_rows
from rlip_assets.datasets.sources.readers import required

SHARED_IMAGES = {"v_coco": "coco"}
"""Dataset -> the dataset whose images, and image ids, it uses."""

ImageKey = tuple[str, str]
"""(dataset, image id): equal keys are the same image."""


def image_key(dataset: str, image_id: str) -> ImageKey:
    """Return the dataset that an image comes from, and its id there."""
    return SHARED_IMAGES.get(dataset, dataset), image_id


def coco_ids(image_data: Path) -> dict[str, str]:
    """Return Visual Genome image id -> COCO image id, from `image_data.json`.

    Raises:
        InputError: the file is missing or damaged.
        DataError: a row without ids.
    """
    found = {}
    for row, image in stream_rows(image_data):
        image_id, coco_id = required(image, ("image_id", "coco_id"), f"{image_data.name} row {row}")
        if coco_id is not None:
            found[str(image_id)] = str(coco_id)
    return found
