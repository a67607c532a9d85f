"""The loader of training batches: images a second, memory of a worker, beside one that keeps the published json in memory.

    python benchmarks/dataloader.py [--scale 0.02] [--workers 2] [--steps 40] [--json benchmark.json]

Both loaders give the same batches by the published recipe of pre-training (sizes, augmentation, 500 texts a step): ours reads the
memory-mapped store, the other holds the list of images of the published json, as the published code does. Tables are synthetic at
`--scale` of Objects365 (1.82 M images) and at a quarter of it, so that what grows with the dataset shows; the images are 64 noisy JPEG
files of 640 x 480. A worker's memory is its private one after its last batch, and its growth since its first one, largest of all workers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import numpy as np  # noqa: E402
import psutil  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from scene_tables import IMAGES, synthetic_bucket, vg_form  # noqa: E402

from rlip_assets.scenes import Scene, write_scenes  # noqa: E402
from rlip_assets.training.batches import StepBatches  # noqa: E402
from rlip_assets.training.recipes import Recipe, recipe  # noqa: E402
from rlip_assets.training.sources import ImageSource, TrainingImages, training_images  # noqa: E402
from rlip_assets.training.vocabulary import BatchVocabulary, NameSampler  # noqa: E402

FILES, SLOTS, SEED = 64, 100, 42
PUBLISHED = "parseda_r50_vg_coco_o365"
BAR_GROWTH_MB = 60.0
"""How much more private memory a worker may have on a table four times as large."""


def write_pictures(folder: Path) -> None:
    """Files with the detail of photos, so that decoding costs what it costs."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(FILES):
        coarse = Image.fromarray(generator.integers(0, 255, (60, 80, 3), np.uint8)).resize((640, 480))
        noise = generator.integers(-12, 12, (480, 640, 3))
        Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8)).save(folder / f"{number}.jpg")


def scenes_of(images: int) -> Iterator[Scene]:
    """Synthetic scenes that share the picture files."""
    for number, scene in enumerate(synthetic_bucket(0, images)):
        yield replace(scene, file_name=f"{number % FILES}.jpg")


class JsonImages(TrainingImages):
    """The same images from a list of json entries in memory; what `StepBatches` asks for is answered from there."""

    def __init__(self, listing: Path, source: ImageSource) -> None:
        self.sources, self.weights = [source], [1.0]
        self._entries: list[dict[str, Any]] = json.loads(listing.read_text())
        self._rows = [np.arange(len(self._entries))]
        self._offsets = np.array([0, len(self._entries)])

    def __getitem__(self, index: int) -> Scene:
        entry = self._entries[index]
        boxes = [(o["x"], o["y"], o["x"] + o["w"], o["y"] + o["h"]) for o in entry["objects"]]
        relations = entry["relationships"]
        return Scene(
            image_id=str(entry["image_id"]),
            dataset="objects365",
            split="train",
            file_name=f"{index % FILES}.jpg",
            width=640,
            height=480,
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            labels=tuple(o["names"] for o in entry["objects"]),
            subject=np.array([r["subject_id"] for r in relations], np.int32),
            object=np.array([r["object_id"] for r in relations], np.int32),
            relation=tuple(r["predicate"] for r in relations),
            confidence=np.array([r["confidence"] for r in relations], np.float32),
        )


def batches_of(images: TrainingImages, setting: Recipe, counts: tuple[Counter[str], Counter[str]]) -> StepBatches:
    """Training batches of some images with the vocabulary of the table."""
    vocabulary = BatchVocabulary(NameSampler(counts[0]), NameSampler(counts[1]), setting.label_budget)
    return StepBatches(images, vocabulary, setting, SLOTS, SEED)


def measure(batches: StepBatches, workers: int, steps: int) -> dict[str, float]:
    """Images a second after the workers' first batches, and the workers' private memory."""
    loader = torch.utils.data.DataLoader(batches, batch_size=None, sampler=range(steps), num_workers=workers)
    images, began, first = 0, 0.0, {}
    for number, batch in enumerate(loader, start=1):
        if number > workers:
            images += len(batch.image_ids)
        if number == workers:
            first = _memory()
            began = time.perf_counter()
        if number == steps:
            seconds, last = time.perf_counter() - began, _memory()
    return {
        "images_per_second": images / seconds,
        "worker_memory_mb": max(last.values()),
        "worker_growth_mb": max(last[process] - first.get(process, 0.0) for process in last),
    }


def _memory() -> dict[int, float]:
    """Private memory (MB) of each worker."""
    children = psutil.Process().children(recursive=True)
    return {child.pid: child.memory_full_info().uss / 1e6 for child in children}


def figures_at(images: int, folder: Path, pictures: Path, workers: int, steps: int) -> dict[str, dict[str, float]]:
    """Both loaders on a table of some images."""
    setting = recipe(PUBLISHED, {"sources": {"objects365": 1.0}, "relation_threshold": 0.0, "processes": 1})
    table, listing = folder / f"table-{images}", folder / f"{images}.json"
    write_scenes(table, scenes_of(images))
    source = ImageSource("objects365", (table,), pictures)
    ours, _ = training_images(setting, [source], frozenset(), folder / "cache", SEED)
    with listing.open("w") as stream:
        for number in range(len(ours)):
            stream.write(("[" if number == 0 else ",") + json.dumps(vg_form(ours[number])))
        stream.write("]")
    counts = ours.object_counts(), ours.relation_counts()
    found = {"store": measure(batches_of(ours, setting, counts), workers, steps)}
    loaded = JsonImages(listing, source)
    found["json"] = measure(batches_of(loaded, setting, counts), workers, steps)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.02, help="fraction of Objects365's images")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--folder", type=Path, default=Path("build/dataloader"))
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.machine()}, torch {torch.__version__}, {options.workers} workers, load {os.getloadavg()[0]:.1f}")
    large = round(IMAGES * options.scale)
    try:
        write_pictures(options.folder / "pictures")
        found = {
            images: figures_at(images, options.folder, options.folder / "pictures", options.workers, options.steps)
            for images in (large // 4, large)
        }
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)
    print(f"{'images':>9} {'loader':8} {'images/s':>9} {'MB a worker':>12} {'growth MB':>10}")
    for images, loaders in found.items():
        for name, row in loaders.items():
            print(
                f"{images:9,} {name:8} {row['images_per_second']:9.1f} {row['worker_memory_mb']:12.1f} "
                f"{row['worker_growth_mb']:10.1f}"
            )
    store, other = found[large]["store"], found[large]["json"]
    more = store["worker_memory_mb"] - found[large // 4]["store"]["worker_memory_mb"]
    flat = more <= BAR_GROWTH_MB
    print(f"speed {store['images_per_second'] / other['images_per_second']:.2f} times that of the json loader")
    print(f"a worker's memory on four times the images: {more:+.1f} MB ({'flat' if flat else 'NOT FLAT'})")
    if options.json:
        options.json.write_text(json.dumps({"flat": flat, "figures": found}, indent=2) + "\n")
    sys.exit(0 if flat else 1)


if __name__ == "__main__":
    main()
