"""Seconds and memory of the full-size networks on processor cores: what the GPU checks time, without a GPU.

    python -m perf.full_size [training] [captions] [tagging] [--threads 2] [--small] [--json FILE]

* training: a step of pre-training at 800 x 1333 pixels (ParSeDA with ResNet-50, 200 queries, 501 texts, RQL and RPL), optimiser included.
* captions: ten nucleus samples of 20 tokens per image, BLIP of base size at 384 pixels.
* tagging: 200 pairs per image, R-Tagger with ResNet-50, at 800 x 1333 pixels.

Each runs alone in a fresh process, one image at a time, with random weights and in fp32: once to warm up, then once timed. Memory is the
peak of the whole process. `--small` runs a toy size that only shows that the program works.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer

from perf.command import JsonFile, run_command, write_figures
from perf.gpu_checks.cases import TINY, Sizes
from perf.gpu_checks.device import Device
from perf.gpu_checks.labels import Captions, Tagging
from perf.gpu_checks.steps import published_step


def _training(sizes: Sizes, device: Device) -> Callable[[], object]:
    step = published_step(sizes, device, 1)
    return lambda: step("fp32")


def _captions(sizes: Sizes, device: Device) -> Callable[[], object]:
    captions = Captions.make(sizes, device, 1)
    return lambda: captions([0])


def _tagging(sizes: Sizes, device: Device) -> Callable[[], object]:
    tagging = Tagging.make(sizes, device, 1)
    return lambda: tagging([0], 1)


WORKS = {"training": _training, "captions": _captions, "tagging": _tagging}


def measure(work: str, small: bool) -> dict[str, float]:
    """Return clock and processor seconds per image, and the peak of this process's memory in GB."""
    run = WORKS[work](TINY if small else Sizes(), Device("cpu"))
    run()
    clock, processor = time.perf_counter(), time.process_time()
    run()
    taken = time.perf_counter() - clock, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"seconds": taken[0], "cpu_seconds": taken[1], "peak_gb": peak}


def _alone(work: str, threads: int, small: bool) -> dict[str, float]:
    """Return the figures of a work from a process of its own."""
    command = [sys.executable, "-m", "perf.full_size", work, "--threads", str(threads), "--inside"]
    done = subprocess.run(command + ["--small"] * small, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main(
    works: Annotated[
        list[str] | None, typer.Argument(help="training, captions, tagging; all when none is named.")
    ] = None,
    threads: int = 2,
    small: Annotated[bool, typer.Option("--small")] = False,
    json_file: JsonFile = None,
    inside: Annotated[bool, typer.Option("--inside", hidden=True)] = False,
) -> None:
    """Print the figures."""
    if unknown := [work for work in works or [] if work not in WORKS]:
        raise typer.BadParameter(f"{unknown[0]} is none of {', '.join(WORKS)}")
    torch.set_num_threads(threads)
    if inside:
        assert works
        print(json.dumps(measure(works[0], small)))
        return
    print(f"{platform.machine()}, torch {torch.__version__}, {threads} threads, load {os.getloadavg()[0]:.1f}, fp32")
    print(f"{'work':12}{'s / image':>12}{'cpu s / image':>16}{'peak GB':>10}", flush=True)
    found: dict[str, Any] = {}
    for work in works or WORKS:
        figures = found[work] = _alone(work, threads, small)
        print(
            f"{work:12}{figures['seconds']:12.2f}{figures['cpu_seconds']:16.2f}{figures['peak_gb']:10.2f}", flush=True
        )
    write_figures(json_file, found)


if __name__ == "__main__":
    run_command(main)
