"""The loader of training batches: images a second and memory, beside one that keeps the published json in memory.

    python -m perf.dataloader [--scale 0.02] [--json-scale 0.02] [--workers 2] [--steps 40] [--json benchmark.json]

Both loaders give the same batches by the published recipe of pre-training (sizes, augmentation, 500 texts a step): ours reads the
memory-mapped store, the other holds the list of images of the published json, as the published code does. Tables are synthetic at
`--scale` of Objects365 (1.82 M images) and at a quarter of it, so that what grows with the dataset shows; the images are 64 noisy JPEG
files of 640 x 480. Every loader is measured in a process of its own. `--json-scale` leaves the json smaller where memory is short; its
memory at the larger size is then that of the line through its two sizes, and the output says so.

Memory of a worker is what is private to it (it shares what the process before it had loaded until it touches it): the least of the second
half of the steps, for batches of large images come and go, largest of all workers; and its growth since its first batch. Memory of all
processes together counts every page once, mapped pages of the store included, which the kernel may drop at any time.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import queue
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import torch
import typer
from PIL import Image

from perf.command import JsonFile, run_command, write_figures
from perf.scene_tables import IMAGES, synthetic_bucket, vg_form
from rlip_assets.datasets.scenes import Scene, write_scenes
from rlip_assets.lineage.recipe_files import recipe
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.training.batches import StepBatches
from rlip_assets.training.label_lists import BatchVocabulary, NameSampler
from rlip_assets.training.training_images import ImageSource, TrainingImages, training_images

FILES, SLOTS, SEED = 64, 100, 42
PUBLISHED = "parseda_r50_vg_coco_o365"
BAR_GROWTH_MB = 60.0
"""Bar on the growth of a worker's private memory on a table four times as large."""


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


@dataclass(frozen=True)
class Table:
    """A synthetic table as our store reads it, as json, and how often each name occurs in it."""

    images: int
    source: ImageSource
    cache: Path
    listing: Path
    counts: tuple[Counter[str], Counter[str]]

    def store(self) -> TrainingImages:
        """Ours."""
        return training_images(setting(), [self.source], None, self.cache, SEED)[0]

    def json(self) -> TrainingImages:
        """The published way."""
        return JsonImages(self.listing, self.source)


def setting() -> Recipe:
    """The published recipe on one dataset."""
    return recipe(PUBLISHED, {"sources": {"objects365": 1.0}, "relation_threshold": 0.0, "processes": 1})


def make_table(images: int, folder: Path, pictures: Path, with_json: bool) -> Table:
    """Write a table of some images, and its json where it is wanted."""
    table, listing = folder / f"table-{images}", folder / f"{images}.json"
    if not table.exists():
        write_scenes(table, scenes_of(images))
    source = ImageSource("objects365", (table,), pictures)
    ours, _ = training_images(setting(), [source], None, folder / "cache", SEED)
    if with_json and not listing.exists():
        with listing.open("w") as stream:
            for number in range(len(ours)):
                stream.write(("[" if number == 0 else ",") + json.dumps(vg_form(ours[number])))
            stream.write("]")
    return Table(images, source, folder / "cache", listing, (ours.object_counts(), ours.relation_counts()))


def measure(table: Table, loader: str, workers: int, steps: int) -> dict[str, float]:
    """Images a second after the first batches, and the memory that stays between batches."""
    torch.set_num_threads(1)
    images: TrainingImages = getattr(table, loader)()
    recipe_of = setting()
    vocabulary = BatchVocabulary(NameSampler(table.counts[0]), NameSampler(table.counts[1]), recipe_of.label_budget)
    batches = StepBatches(images, vocabulary, recipe_of, SLOTS, SEED)
    sequence = torch.utils.data.DataLoader(batches, batch_size=None, sampler=range(steps), num_workers=workers)
    count, warm = 0, max(workers, 1)
    last: dict[int, float] = {}
    whole = float("inf")
    for number, batch in enumerate(sequence, start=1):
        if number > warm:
            count += len(batch.image_ids)
        if number == warm:
            first, began = private_memory(), time.perf_counter()
        if number > steps // 2:
            now = private_memory()
            last = {process: min(now[process], last.get(process, now[process])) for process in now}
            whole = min(whole, memory_of_all())
        if number == steps:
            seconds = time.perf_counter() - began
    return {
        "images_per_second": count / seconds,
        "worker_memory_mb": max(last.values(), default=0.0),
        "worker_growth_mb": max((last[process] - first.get(process, 0.0) for process in last), default=0.0),
        "all_memory_mb": whole,
    }


def private_memory() -> dict[int, float]:
    """Private memory (MB) of each worker."""
    return {child.pid: child.memory_full_info().uss / 1e6 for child in psutil.Process().children(recursive=True)}


def memory_of_all() -> float:
    """Memory (MB) of this process and its workers; what they share counts once."""
    me = psutil.Process()
    return sum(process.memory_full_info().pss for process in (me, *me.children(recursive=True))) / 1e6


def _answer(results: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    results.put(function(*arguments))


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of `function` in a process that does nothing else."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_answer, args=(results, function, arguments))
    process.start()
    while True:
        try:
            found = results.get(timeout=5)
            break
        except queue.Empty:
            if not process.is_alive():
                raise RuntimeError(f"{function.__name__}{arguments} ended with {process.exitcode}") from None
    process.join()
    return found


def extended(less: Mapping[str, Any], more: Mapping[str, Any], name: str, images: int) -> float:
    """A figure at `images` on the line through two rows."""
    slope = (more[name] - less[name]) / (more["images"] - less["images"])
    return float(more[name] + slope * (images - more["images"]))


def main(
    scale: Annotated[float, typer.Option(help="Fraction of Objects365's images.")] = 0.02,
    json_scale: Annotated[float | None, typer.Option(help="The same for the json loader; by default --scale.")] = None,
    workers: Annotated[list[int], typer.Option(help="Worker processes; may be given several times.")] = [2],  # noqa: B006
    steps: int = 40,
    folder: Path = Path("build/dataloader"),
    json_file: JsonFile = None,
) -> None:
    """Print the figures."""
    print(f"{platform.machine()}, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    print(
        f"{'images':>9} {'loader':8} {'workers':>7} {'images/s':>9} {'MB a worker':>12} {'growth MB':>10} {'MB of all':>10}"
    )
    large, listed = (round(IMAGES * scale) for scale in (scale, json_scale or scale))
    rows: list[dict[str, Any]] = []
    try:
        pictures = folder / "pictures"
        write_pictures(pictures)
        for images in sorted({large // 4, large, listed // 4, listed}):
            loaders = [name for name, top in (("store", large), ("json", listed)) if images in (top // 4, top)]
            table = in_fresh_process(make_table, images, folder, pictures, "json" in loaders)
            for loader in loaders:
                for number in workers:
                    figures = in_fresh_process(measure, table, loader, number, steps)
                    rows.append({"images": images, "loader": loader, "workers": number, **figures})
                    print(
                        f"{images:9,} {loader:8} {number:7} {figures['images_per_second']:9.1f} "
                        f"{figures['worker_memory_mb']:12.1f} {figures['worker_growth_mb']:10.1f} "
                        f"{figures['all_memory_mb']:10.1f}",
                        flush=True,
                    )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    flat = True
    for number in workers:
        at = {(row["images"], row["loader"]): row for row in rows if row["workers"] == number}
        store, less, other = at[large, "store"], at[large // 4, "store"], at[listed, "json"]
        there = {
            name: extended(at[listed // 4, "json"], other, name, large)
            for name in ("worker_memory_mb", "all_memory_mb")
        }
        aside = "" if listed == large else f" (by the line through {listed // 4:,} and {listed:,} images)"
        print(f"{number} workers, {large:,} images{aside}:")
        print(f"  speed {store['images_per_second'] / other['images_per_second']:.2f} times that of the json loader")
        print(
            f"  all processes: {store['all_memory_mb']:,.0f} MB; json {there['all_memory_mb']:,.0f} MB, "
            f"{there['all_memory_mb'] / store['all_memory_mb']:.1f} times"
        )
        if number:
            more = store["worker_memory_mb"] - less["worker_memory_mb"]
            flat &= more <= BAR_GROWTH_MB
            print(
                f"  a worker: {store['worker_memory_mb']:,.0f} MB, {more:+.1f} MB against a quarter of the images "
                f"({'flat' if more <= BAR_GROWTH_MB else 'NOT FLAT'}); json {there['worker_memory_mb']:,.0f} MB, "
                f"{there['worker_memory_mb'] / store['worker_memory_mb']:.1f} times"
            )
    write_figures(json_file, {"flat": flat, "figures": rows})
    sys.exit(0 if flat else 1)


if __name__ == "__main__":
    run_command(main)
