"""Layouts of the datasets: the folders that hold their images."""

from __future__ import annotations

from pathlib import Path

_FOLDERS = {
    "visual_genome": ("images", "VG_100K", "VG_100K_2"),
    "coco": ("{split}2017", "images/{split}2017"),
    "objects365": ("{split}",),
    "hico_det": ("images/{split}2015", "{split}2015"),
    "v_coco": ("images/{part}", "coco/images/{part}", "{part}"),
    "open_images": ("images", "{split}"),
}
"""Dataset -> folders in which its releases have its images, the official one first; `part` is "train2014" or "val2014"."""


def image_file(root: Path, dataset: str, split: str, name: str) -> str:
    """Return the path below `root` of an image that annotations call `name`.

    It is in the first folder that has it, or else in the first one that exists, or else in the official one; a dataset without a layout
    has its images where annotations say.
    """
    part = name.split("_")[1] if name.startswith("COCO_") else ""
    names = [
        "/".join(filter(None, (folder.format(split=split, part=part), name))) for folder in _FOLDERS.get(dataset, ("",))
    ]
    for exists in (Path.is_file, lambda path: path.parent.is_dir()) if len(names) > 1 else ():
        for place in names:
            try:
                if exists(root / place):
                    return place
            except (OSError, ValueError):  # a name that no file can have
                continue
    return names[0]
