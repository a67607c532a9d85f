"""Memory of reading a COCO-form json, beside loading it whole: a 10 GB json does not need 10 GB.

    python -m perf.readers [--gigabytes 2] [--whole-gigabytes 0.2] [--folder build/readers] [--json benchmark.json]

Writes a synthetic annotation file with the images, boxes and segments of Objects365 and measures, each in a fresh process: spreading its
records over 64 buckets (what the first stage of a dataset does, once), then the images of one bucket; and `json.load` of a smaller file.
"Above start" is the largest resident set less that of the process after its imports. Rates are by CPU second, so that other work on the
machine does not count. Linux alone. Everything written is removed at the end.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from perf.command import JsonFile, run_command, write_figures
from rlip_assets.datasets.sources.coco_style import CocoStyleReader
from rlip_assets.datasets.sources.record_index import RecordIndex

BUCKETS, CLASSES, BOXES_PER_IMAGE = 64, 365, 14
_BLOCK = 2000


def write_annotations(path: Path, size: int) -> int:
    """A COCO-form file of about `size` bytes; returns its number of images."""
    rng = np.random.default_rng(0)
    pieces = path.with_suffix(".images")
    images = boxes = 0
    with path.open("w") as stream, pieces.open("w") as aside:
        categories = [{"id": n, "name": f"object name {n}"} for n in range(1, CLASSES + 1)]
        stream.write(f'{{"categories": {json.dumps(categories)}, "annotations": [')
        while stream.tell() + aside.tell() < size:
            block = rng.random((_BLOCK * BOXES_PER_IMAGE, 12)).round(3) * 600
            for row in block.tolist():
                image = images + boxes % (_BLOCK * BOXES_PER_IMAGE) // BOXES_PER_IMAGE
                entry: dict[str, Any] = {
                    "id": boxes,
                    "image_id": image,
                    "category_id": 1 + boxes % CLASSES,
                    "iscrowd": 0,
                }
                entry |= {"bbox": row[:4], "area": row[2] * row[3], "segmentation": [row[4:]]}
                stream.write((", " if boxes else "") + json.dumps(entry))
                boxes += 1
            for number in range(images, images + _BLOCK):
                entry = {
                    "id": number,
                    "file_name": f"patch{number % 51}/{number:012d}.jpg",
                    "width": 640,
                    "height": 480,
                }
                aside.write((", " if number else "") + json.dumps(entry))
            images += _BLOCK
        stream.write('], "images": [')
        stream.flush()
        with pieces.open() as content:
            shutil.copyfileobj(content, stream)
        stream.write("]}")
    pieces.unlink()
    return images


def spread(folder: Path) -> int:
    """Spread the records of `boxes.json` over the buckets; returns the images of one bucket."""
    reader = CocoStyleReader("synthetic", folder, {"train": ("boxes.json", "photos")})
    index = RecordIndex(reader, BUCKETS, folder / "cache")
    return sum(1 for _ in index.images(0))


def load_whole(folder: Path) -> int:
    """Load `boxes.json` as the published code does; returns its number of boxes."""
    return len(json.loads((folder / "boxes.json").read_text())["annotations"])


def measure(work: Callable[[Path], int], folder: Path) -> dict[str, float]:
    """Peak memory above the start in MB and CPU seconds of `work`, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (work, folder))


def _measured(work: Callable[[Path], int], folder: Path) -> dict[str, float]:
    start, began = _peak(), time.process_time()
    work(folder)
    return {"peak_mb_above_start": _peak() - start, "cpu_seconds": time.process_time() - began}


def _peak() -> float:
    """Largest resident set of this process in MB; the figure of `getrusage` would begin with that of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def run(folder: Path, gigabytes: float, whole_gigabytes: float) -> dict[str, Any]:
    """All figures."""
    report: dict[str, Any] = {}
    for name, work, size in (("stream", spread, gigabytes), ("whole", load_whole, whole_gigabytes)):
        place = folder / name
        place.mkdir(parents=True)
        images = write_annotations(place / "boxes.json", int(size * 1e9))
        written = (place / "boxes.json").stat().st_size
        figures = measure(work, place)
        report[name] = {
            "megabytes": written / 1e6,
            "images": images,
            **figures,
            "megabytes_per_cpu_second": written / 1e6 / figures["cpu_seconds"],
            "peak_to_file": figures["peak_mb_above_start"] * 1024**2 / written,
        }
        shutil.rmtree(place)
    return report


def main(
    gigabytes: float = 2.0,
    whole_gigabytes: float = 0.2,
    folder: Path = Path("build/readers"),
    json_file: JsonFile = None,
) -> None:
    """Print the figures."""
    try:
        report = run(folder, gigabytes, whole_gigabytes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for name, figures in report.items():
        print(
            f"{name:7s} {figures['megabytes']:7.0f} MB of json: peak {figures['peak_mb_above_start']:6.0f} MB above start "
            f"({figures['peak_to_file']:.2f} of the file), {figures['megabytes_per_cpu_second']:.1f} MB a CPU second"
        )
    write_figures(json_file, report)


if __name__ == "__main__":
    run_command(main)
