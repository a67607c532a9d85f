"""Images that two datasets share: V-COCO uses those of COCO, and Visual Genome names the COCO image of half of its own."""

from __future__ import annotations

from pathlib import Path

from rlip_assets.datasets.sources.json_stream import stream_rows
from rlip_assets.datasets.sources.rows import BadValue, plain_id, record

SHARED_IMAGES = {"v_coco": "coco"}
"""Dataset -> the dataset whose images, and image ids, it uses."""

IMAGE_DATA = "image_data.json"
"""Optional file of Visual Genome that names the COCO image of each of its own."""

ImageKey = tuple[str, str]
"""(dataset, image id): equal keys are the same image."""


_TWINS = record(image_id=plain_id, coco_id=plain_id)


def image_key(dataset: str, image_id: str) -> ImageKey:
    """Return the dataset that an image comes from, and its id there."""
    return SHARED_IMAGES.get(dataset, dataset), image_id


def coco_ids(image_data: Path) -> dict[str, str]:
    """Return Visual Genome image id -> COCO image id, from `image_data.json`; rows that name no COCO image are left out.

    Raises:
        InputError: the file is missing or damaged.
    """
    found = {}
    for _, row in stream_rows(image_data):
        try:
            ids = _TWINS(row)
        except BadValue:
            continue
        found[str(ids["image_id"])] = str(ids["coco_id"])
    return found
