"""Time the evaluators at full scale, and against the loop formulations of `tests/oracle`.

    python -m perf.evaluation [--data FOLDER] [--only hico_det] [--oracle-images 400]

Predictions of 100 pairs per image are generated and written as Parquet: 9,658 images on the real HICO-DET test annotations (from `--data`,
by default the folder that RLIP_REAL_ANNOTATIONS names; left out where they are absent), 4,946 and 5,322 images on synthetic V-COCO and Open
Images annotations. Each measurement runs in a fresh process with one thread. Its time starts before the predictions are opened and ends
with the figures: reading, checks, selection, suppression, matching and averages. Peak memory is that of the whole process.

The oracle then scores the first images of the same predictions; its figures must be ours to 1e-12.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from perf.command import run_command
from perf.synthetic import (
    OPEN_IMAGES_IMAGES,
    VCOCO_IMAGES,
    open_images_truth,
    vcoco_parts,
    vcoco_vocabulary,
    write_predictions,
)
from rlip_assets.evaluation.core.evaluator import Evaluator
from rlip_assets.evaluation.core.protocols import HICO_RLIPV2, NMS, PLAIN
from rlip_assets.evaluation.formats.annotations import read_annotations
from rlip_assets.evaluation.formats.predictions import PredictionBatch, read_predictions
from rlip_assets.evaluation.hico_det.evaluator import HicoDetEvaluator
from rlip_assets.evaluation.open_images.predicate import OpenImagesPredicateEvaluator
from rlip_assets.evaluation.open_images.triplet import OpenImagesTripletEvaluator
from rlip_assets.evaluation.v_coco.official import VcocoOfficialEvaluator
from rlip_assets.evaluation.v_coco.training_metric import VcocoTrainingEvaluator
from tests.support.facts import REAL_ANNOTATIONS

PAIRS = 100
SEED = 1
HICO_FILE = Path("hico_det/instances_test2015.json")


class Case:
    """One benchmark: its annotations, its evaluators by name, and the oracle on the first images."""

    def __init__(self, name: str, data: Path) -> None:
        self.name = name
        if name == "hico_det":
            self.truth, self.vocabulary = read_annotations(data / HICO_FILE)
        elif name == "open_images":
            self.truth, self.vocabulary = open_images_truth(OPEN_IMAGES_IMAGES, SEED)
        else:
            self.parts = vcoco_parts(VCOCO_IMAGES, SEED)
            self.official, self.truth = self.parts.truth(), self.parts.pairs()
            self.vocabulary = vcoco_vocabulary()

    def evaluators(self) -> dict[str, Callable[[], Evaluator]]:
        """Tasks that are timed; the first is the one that the oracle repeats."""
        truth, vocabulary = self.truth, self.vocabulary
        if self.name == "hico_det":
            only = (HICO_RLIPV2,)
            return {
                "rlipv2, NMS": lambda: HicoDetEvaluator(truth, vocabulary, only=only, variants=(NMS,)),
                "rlipv2, plain": lambda: HicoDetEvaluator(truth, vocabulary, only=only, variants=(PLAIN,)),
                "rlipv2 and matlab, plain and NMS": lambda: HicoDetEvaluator(truth, vocabulary),
            }
        if self.name == "open_images":
            return {
                "oi_triplet, K = 100 and 50, NMS": lambda: OpenImagesTripletEvaluator(
                    truth, vocabulary, variants=(NMS,)
                ),
                "oi_triplet, K = 100 and 50, plain": lambda: OpenImagesTripletEvaluator(
                    truth, vocabulary, variants=(PLAIN,)
                ),
                "oi_predicate": lambda: OpenImagesPredicateEvaluator(truth, vocabulary),
            }
        return {
            "official": lambda: VcocoOfficialEvaluator(self.official, vocabulary),
            "training": lambda: VcocoTrainingEvaluator(truth, vocabulary),
        }

    def first_images(self, count: int) -> Evaluator:
        """The first evaluator, for the first images only."""
        keep = np.arange(len(self.truth)) < count
        truth = self.truth.select(keep)
        if self.name == "hico_det":
            return HicoDetEvaluator(truth, self.vocabulary, only=(HICO_RLIPV2,), variants=(NMS,))
        if self.name == "open_images":
            return OpenImagesTripletEvaluator(truth, self.vocabulary, variants=(NMS,))
        return VcocoOfficialEvaluator(self.parts.first(count).truth(), self.vocabulary)


def measure(case: Case, evaluator: str, predictions: Path) -> dict[str, Any]:
    """Time one evaluator at full scale, in this process."""
    make = case.evaluators()[evaluator]
    started, wall = time.process_time(), time.perf_counter()
    judge = make()
    for batch in read_predictions(predictions):
        judge.update(batch)
    results = judge.compute()
    seconds, wall = time.process_time() - started, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    figures = {f"{result.name}/{name}": value for result in results for name, value in result.figures.items()}
    return {"cpu_s": seconds, "wall_s": wall, "images": len(case.truth), "peak_gb": peak, "figures": figures}


def measure_oracle(case: Case, predictions: Path, count: int) -> dict[str, Any]:
    """Time the oracle and the first evaluator on the first images, in this process, and compare their figures."""
    import perf.oracle_forms as oracle_forms

    images = []
    for batch in read_predictions(predictions):
        images += list(batch.images())
        if len(images) >= count:
            break
    images = images[:count]
    judge = case.first_images(count)
    started = time.process_time()
    for low in range(0, count, 256):
        judge.update(PredictionBatch.of(images[low : low + 256], len(case.vocabulary.verbs)))
    (result,) = judge.compute()
    ours = time.process_time() - started
    started = time.process_time()
    if case.name == "v_coco":
        theirs = oracle_forms.vcoco_official(case.parts.first(count), images)
    else:
        form = oracle_forms.hico_det if case.name == "hico_det" else oracle_forms.open_images
        theirs = form(judge.truth, case.vocabulary, images)
    oracle = time.process_time() - started
    difference = max(abs(result.figures[name] - value) for name, value in theirs.items())
    return {"images": count, "cpu_s": ours, "oracle_cpu_s": oracle, "difference": difference}


def in_fresh_process(data: Path, *task: str) -> dict[str, Any]:
    """Run one task of this script in a process of its own with one thread."""
    words = [word for part in task for word in ("--task", part)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "perf.evaluation", "--data", str(data), *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **threads})
    return json.loads(done.stdout)


def run_task(data: Path, kind: str, name: str, path: Path, *rest: str) -> dict[str, Any]:
    """Run one task in a fresh process."""
    case = Case(name, data)
    if kind == "write":
        write_predictions(path, case.truth, case.vocabulary, PAIRS, SEED, any_subject=name == "open_images")
        return {"names": list(case.evaluators())}
    if kind == "measure":
        return measure(case, rest[0], path)
    return measure_oracle(case, path, int(rest[0]))


class Benchmark(StrEnum):
    """The benchmarks that are timed."""

    HICO_DET = "hico_det"
    V_COCO = "v_coco"
    OPEN_IMAGES = "open_images"


def main(
    data: Annotated[Path, typer.Option(help="Folder of real annotations.")] = REAL_ANNOTATIONS,
    only: Annotated[list[Benchmark] | None, typer.Option(help="May be given several times.")] = None,
    oracle_images: int = 400,
    task: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
) -> None:
    """Exit with status 1 when the oracle disagrees."""
    if task:
        kind, name, path, *rest = task
        print(json.dumps(run_task(data, kind, name, Path(path), *rest)))
        return
    print(
        f"Python {platform.python_version()}, NumPy {np.__version__}, one thread, load average {os.getloadavg()[0]:.1f}"
    )
    agreed = True
    with tempfile.TemporaryDirectory() as folder:
        for name in only or list(Benchmark):
            if name == "hico_det" and not (data / HICO_FILE).exists():
                print(f"hico_det: left out, {data / HICO_FILE} is absent")
                continue
            table = Path(folder) / f"{name}.parquet"
            names = in_fresh_process(data, "write", name, str(table))["names"]
            print(f"{name}: {table.stat().st_size / 2**20:.0f} MiB of predictions")
            for evaluator in names:
                found = in_fresh_process(data, "measure", name, str(table), evaluator)
                rate = found["images"] / found["cpu_s"]
                print(
                    f"  {evaluator:34} {found['images']:6} images  {found['cpu_s']:6.2f} CPU s  {found['wall_s']:6.2f} s"
                    f"  {rate:8.0f} images/s  peak {found['peak_gb']:.2f} GB"
                )
            if oracle_images:
                found = in_fresh_process(data, "oracle", name, str(table), str(oracle_images))
                agreed &= found["difference"] <= 1e-12
                print(
                    f"  {names[0]:34} {found['images']:6} images  {found['cpu_s']:6.3f} CPU s, oracle"
                    f" {found['oracle_cpu_s']:.1f} CPU s: {found['oracle_cpu_s'] / found['cpu_s']:.0f} times faster,"
                    f" largest difference {found['difference']:.1e}"
                )
            table.unlink()
    raise typer.Exit(0 if agreed else 1)


if __name__ == "__main__":
    run_command(main)
