"""Layouts of the datasets: the folders that hold their images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
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


class Disk:
    """Which files and folders are below a root; every answer asks the file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def is_file(self, place: str) -> bool:
        """Return whether a POSIX path below the root is a file; False for a name that no file can have."""
        try:
            return (self.root / place).is_file()
        except (OSError, ValueError):
            return False

    def is_folder(self, place: str) -> bool:
        """Return whether a POSIX path below the root is a folder."""
        try:
            return (self.root / place).is_dir()
        except (OSError, ValueError):
            return False


class ListedDisk(Disk):
    """The same for millions of questions: every folder is listed once, when it is first asked for, and no file is looked at."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._names = cache(self._list)

    def is_file(self, place: str) -> bool:
        folder, _, name = place.rpartition("/")
        return name in self._names(folder)

    def _list(self, folder: str) -> frozenset[str]:
        try:
            return frozenset(os.listdir(self.root / folder))
        except (OSError, ValueError):
            return frozenset()


def image_places(dataset: str, split: str, name: str) -> list[str]:
    """Return the paths below a root that an image may have which annotations call `name`, the official one first.

    A dataset without a layout has its images where annotations say.
    """
    part = name.split("_")[1] if name.startswith("COCO_") else ""
    folders = _FOLDERS.get(dataset, ("",))
    return ["/".join(filter(None, (folder.format(split=split, part=part), name))) for folder in folders]


def image_file(disk: Disk, places: Sequence[str]) -> str:
    """Return the place of an image: the first that is there, or else the first in a folder that is there, or else the official one."""
    if len(places) > 1:
        for exists in (disk.is_file, lambda place: disk.is_folder(place.rpartition("/")[0])):
            for place in places:
                if exists(place):
                    return place
    return places[0]
