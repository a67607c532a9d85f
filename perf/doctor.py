"""Seconds and memory of `rlip doctor` on a root of the size of COCO: outlines in the annotations, images linked to a few files.

python -m perf.doctor                    # 118,287 images, 860,001 boxes: about 0.5 GB for a while
python -m perf.doctor --thorough         # reads every row
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
import yaml
from PIL import Image

from perf.command import run_command
from rlip_assets.doctor.checks import annotation_files, images, layouts
from rlip_assets.doctor.examination import Examination

SIZE = (640, 480)
_OUTLINE = ", ".join(f"{value:.2f}" for value in np.random.default_rng(0).uniform(0, 480, 56))
_LINKS = 40_000
"""Names that a file of common file systems may have."""


def write_root(root: Path, number: int, boxes: int) -> int:
    """Write a COCO 2017 root of one split and return the bytes of its annotations."""
    folder = root / "train2017"
    folder.mkdir(parents=True)
    names = [f"{key:012d}.jpg" for key in range(number)]
    for start in range(0, number, _LINKS):
        first, *others = names[start : start + _LINKS]
        Image.effect_noise(SIZE, 40).convert("RGB").save(folder / first)
        for name in others:
            os.link(folder / first, folder / name)
    path = root / "annotations/instances_train2017.json"
    path.parent.mkdir()
    head = '"license": 3, "date_captured": "2013-11-14 11:18:45", "height": 480, "width": 640'
    with path.open("w") as stream:
        rows = (f'{{{head}, "file_name": "{name}", "id": {key}}}' for key, name in enumerate(names))
        stream.write(f'{{"info": {{}}, "images": [{", ".join(rows)}], "annotations": [')
        for key in range(boxes):
            row = f'"image_id": {key % number}, "bbox": [473.07, 395.93, 38.65, 28.67], "category_id": 1, "id": {key}'
            comma = ", " if key else ""
            stream.write(f'{comma}{{"segmentation": [[{_OUTLINE}]], "area": 702.1, "iscrowd": 0, {row}}}')
        stream.write('], "categories": [{"id": 1, "name": "person"}]}')
    return path.stat().st_size


def main(
    number: Annotated[int, typer.Option(help="Images.")] = 118_287,
    boxes: Annotated[int, typer.Option(help="Boxes.")] = 860_001,
    thorough: Annotated[bool, typer.Option(help="As `rlip doctor --thorough`.")] = False,
) -> None:
    """Print seconds by check, and the peak of memory."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        size = write_root(root / "coco", number, boxes)
        (root / "params.yaml").write_text(yaml.safe_dump({"sources": {"coco": {"root": "coco"}}}))
        case = Examination(root, thorough=thorough)
        print(f"{number:,} images, {size / 1e9:.2f} GB of annotations")
        for check in (layouts.check, annotation_files.check, images.check):
            began = time.perf_counter()
            told = [finding.message for finding in check(case) if finding.subject == "coco"]
            print(f"{check.__module__.rpartition('.')[2]:20s} {time.perf_counter() - began:6.1f} s   {told[-1]}")
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MB")


if __name__ == "__main__":
    run_command(main)
