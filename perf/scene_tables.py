"""Scene tables at the size of Objects365: 1.82 M images, 26 M boxes, 6 M triplets.

    python -m perf.scene_tables [--scale 1.0] [--folder build/scene_tables] [--json benchmark.json]

Writes a synthetic table (64 folders, as the paper profile has buckets), derives the memory-mapped store, and measures
in fresh processes: opening, random access, one shuffled epoch and its peak memory, and the same for the equivalent
json (the "VG form" list of images that the published code loads whole). `--scale 0.01` is a quick check. Everything
written is removed at the end unless `--keep`.

"Peak memory" is the largest resident set. A mapped file counts there once its pages were touched, although the kernel may drop
them at any time and all processes share them; "private memory" leaves them out. Rates by CPU second are those of one
core whatever else the machine does. The json is measured on `--json-scale` of the buckets and its figures multiplied
up.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer

from perf.command import JsonFile, run_command, write_figures
from rlip_assets.datasets.scenes import Scene, SceneStore, write_scenes

IMAGES, BOXES, TRIPLETS = 1_822_000, 26_000_000, 6_000_000
BUCKETS = 64
OBJECT_NAMES, RELATION_NAMES = 365, 1500
ACCESSES = 200_000
BARS = {"open_seconds": 2.0, "random_rows_per_cpu_second": 20_000.0, "epoch_peak_memory_mb": 1000.0}


def synthetic_bucket(bucket: int, images: int) -> Iterator[Scene]:
    """`images` scenes with the box and triplet counts of Objects365; the same bucket is the same scenes."""
    rng = np.random.default_rng(bucket)
    objects = np.array([f"object name {number}" for number in range(OBJECT_NAMES)])
    relations = np.array([f"relation text {number}" for number in range(RELATION_NAMES)])
    box_counts = 1 + rng.poisson(BOXES / IMAGES - 1, images)
    triplet_counts = rng.poisson(TRIPLETS / IMAGES, images)
    for number in range(images):
        count, triplets = int(box_counts[number]), int(triplet_counts[number])
        corners = rng.random((count, 4), np.float32) * np.float32(300)
        corners[:, 2:] += corners[:, :2]
        image_id = bucket * 10_000_000 + number
        yield Scene(
            image_id=str(image_id),
            dataset="objects365",
            split="train",
            file_name=f"train/patch{bucket}/objects365_v2_{image_id:08d}.jpg",
            width=640,
            height=480,
            boxes=corners,
            labels=tuple(objects[rng.integers(0, OBJECT_NAMES, count)].tolist()),
            subject=rng.integers(0, count, triplets).astype(np.int32),
            object=rng.integers(0, count, triplets).astype(np.int32),
            relation=tuple(relations[rng.integers(0, RELATION_NAMES, triplets)].tolist()),
            confidence=rng.random(triplets, np.float32),
        )


def vg_form(scene: Scene) -> dict[str, Any]:
    """The image as one entry of the published json."""
    return {
        "image_id": int(scene.image_id),
        "dataset": "o365",
        "objects": [
            {"object_id": n, "x": x1, "y": y1, "w": x2 - x1, "h": y2 - y1, "names": scene.labels[n]}
            for n, (x1, y1, x2, y2) in enumerate(scene.boxes.round(2).tolist())
        ],
        "relationships": [
            {
                "relationship_id": n,
                "predicate": text,
                "subject_id": int(s),
                "object_id": int(o),
                "confidence": round(float(c), 4),
            }
            for n, (text, s, o, c) in enumerate(
                zip(scene.relation, scene.subject, scene.object, scene.confidence, strict=True)
            )
        ],
    }


def write_tables(folder: Path, images: int) -> list[Path]:
    """One table a bucket."""
    folders = []
    for bucket in range(BUCKETS):
        part = folder / f"bucket-{bucket}"
        write_scenes(part, synthetic_bucket(bucket, images // BUCKETS))
        folders.append(part)
    return folders


def write_json_form(path: Path, folders: list[Path], cache: Path) -> None:
    """The equivalent json, streamed."""
    with path.open("w") as stream:
        for number, scene in enumerate(SceneStore.open(folders, cache)):
            stream.write("[" if number == 0 else ",")
            stream.write(json.dumps(vg_form(scene)))
        stream.write("]")


def measure_open(folders: list[Path], cache: Path) -> dict[str, float]:
    """Seconds until the first row is in hand."""
    wall, cpu = time.perf_counter(), time.process_time()
    opened = SceneStore.open(folders, cache)
    _ = opened[len(opened) // 2]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"open_seconds": wall, "open_cpu_seconds": cpu, "rows": len(opened)}


def measure_random(folders: list[Path], cache: Path) -> dict[str, float]:
    """Rows a second at random places, each decoded to a `Scene`."""
    opened = SceneStore.open(folders, cache)
    places = np.random.default_rng(0).integers(0, len(opened), ACCESSES).tolist()
    wall, cpu = time.perf_counter(), time.process_time()
    for place in places:
        _ = opened[place]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"random_rows_per_second": len(places) / wall, "random_rows_per_cpu_second": len(places) / cpu}


def measure_epoch(folders: list[Path], cache: Path) -> dict[str, float]:
    """One pass over all rows in random order, touching every box."""
    opened = SceneStore.open(folders, cache)
    wall, cpu = time.perf_counter(), time.process_time()
    total = 0.0
    boxes = triplets = 0
    for place in np.random.default_rng(1).permutation(len(opened)).tolist():
        scene = opened[place]
        boxes += len(scene.labels)
        triplets += len(scene.relation)
        total += float(scene.boxes.sum())
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if not np.isfinite(total):
        raise RuntimeError("the boxes of the synthetic table are not finite")
    return {"epoch_seconds": wall, "epoch_cpu_seconds": cpu, "boxes": boxes, "triplets": triplets}


def measure_json(path: Path) -> dict[str, float]:
    """Loading the json whole, as the published code does, and a pass over it in random order."""
    start = time.perf_counter()
    with path.open() as stream:
        images = json.load(stream)
    loaded = time.perf_counter() - start
    for place in np.random.default_rng(1).permutation(len(images)).tolist():
        _ = np.array(
            [[box["x"], box["y"], box["x"] + box["w"], box["y"] + box["h"]] for box in images[place]["objects"]]
        )
    return {"json_load_seconds": loaded, "json_epoch_seconds": time.perf_counter() - start - loaded}


def _measured(function: Callable[..., dict[str, float]], arguments: tuple[Any, ...], results: Any) -> None:
    figures = function(*arguments)
    memory = psutil.Process().memory_full_info()
    figures["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures["private_memory_mb"] = memory.uss / 1e6
    results.put(figures)


def in_fresh_process(function: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """Figures of `function` with the peak and private memory of a process that does nothing else."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_measured, args=(function, arguments, results))
    process.start()
    figures: dict[str, float] = results.get()
    process.join()
    return figures


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Seconds and result of a call."""
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def size_mb(folder: Path) -> float:
    """Megabytes of the files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main(
    scale: Annotated[float, typer.Option(help="Fraction of Objects365's images.")] = 1.0,
    folder: Path = Path("build/scene_tables"),
    json_scale: Annotated[float, typer.Option(help="Fraction of the table written as json; times are per row.")] = 0.1,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the tables for another run.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Print the figures."""

    tables, cache, listing = (folder / name for name in ("tables", "cache", "vg_form.json"))
    images = max(BUCKETS, round(IMAGES * scale))
    figures: dict[str, Any] = {
        "images": images // BUCKETS * BUCKETS,
        "machine": platform.processor() or platform.machine(),
    }
    try:
        figures["write_seconds"], folders = timed(write_tables, tables, images)
        figures["derive_seconds"], _ = timed(SceneStore.open, folders, cache)
        figures["parquet_mb"], figures["store_mb"] = size_mb(tables), size_mb(cache)
        for function in (measure_open, measure_random, measure_epoch):
            measured = in_fresh_process(function, folders, cache)
            name = function.__name__.removeprefix("measure_")
            figures |= {key if not key.endswith("_mb") else f"{name}_{key}": value for key, value in measured.items()}
        some = folders[: max(1, round(BUCKETS * json_scale))]
        write_json_form(listing, some, cache)
        measured = in_fresh_process(measure_json, listing)
        times = len(folders) / len(some)
        figures["json_mb"] = size_mb(folder) - figures["parquet_mb"] - figures["store_mb"]
        figures["json_measured_fraction"] = 1 / times
        figures["json_load_seconds"] = measured["json_load_seconds"] * times
        figures["json_epoch_seconds"] = measured["json_epoch_seconds"] * times
        figures["json_peak_memory_mb"] = measured["peak_memory_mb"] * times
        figures["json_load_to_open"] = figures["json_load_seconds"] / figures["open_seconds"]
        figures["json_to_store_peak_memory"] = figures["json_peak_memory_mb"] / figures["epoch_peak_memory_mb"]
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    checks = {
        "open_seconds": figures["open_seconds"] < BARS["open_seconds"],
        "random_rows_per_cpu_second": figures["random_rows_per_cpu_second"] >= BARS["random_rows_per_cpu_second"],
        "epoch_peak_memory_mb": figures["epoch_peak_memory_mb"] < BARS["epoch_peak_memory_mb"],
    }
    for key, value in figures.items():
        print(f"{key:40} {value:,.3f}" if isinstance(value, float) else f"{key:40} {value}")
    for key, passed in checks.items():
        print(f"{'met' if passed else 'NOT MET':8} {key}: bar {BARS[key]:g}")
    write_figures(json_file, figures | {"met": checks})


if __name__ == "__main__":
    run_command(main)
