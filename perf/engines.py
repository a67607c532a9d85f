"""Throughput of the engines that make shards: captions of pictures with 1 and 2 workers, on processes and on Ray, against no workers.

    python -m perf.engines [--pictures 96] [--shard 8] [--captions 4] [--engines processes,ray] [--json out.json]

The shipped captioner captions pictures of the micro world. The baseline (`here`) is the stage's own process, and runs first and last.
`rate` counts from the moment at which the first worker has opened its model to the end of the last shard; `start` is the time before.
`work` is processor time per picture, which other programs disturb less than the rate. Every engine must give the same captions. With n
idle cores, n workers should come near n times the rate of one.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image

from perf.caption_identity import CAPTIONER
from perf.command import JsonFile, run_command, write_figures
from rlip_assets.lineage.engines import run
from rlip_assets.lineage.params.execution import ExecutionParams
from rlip_assets.lineage.params.labels import CaptionParams
from rlip_assets.micro_world.render import render
from rlip_assets.micro_world.starting_weights.caption_quality import held_out_pictures

Task = tuple[list[str], list[Image.Image]]


@dataclass
class Captioning:
    """The work of a worker, which opens the captioner at its first task: began, ended, processor seconds, captions."""

    params: CaptionParams
    opened: Any = None

    def __call__(self, task: Task) -> tuple[float, float, float, list[list[str]]]:
        if self.opened is None:
            from rlip_assets.labelling.captions.captioner import Captioner

            torch.set_num_threads(1)
            self.opened = Captioner.open(str(CAPTIONER), self.params, "cpu")
        began, worked = time.time(), time.process_time()
        captions = self.opened(*task)
        return began, time.time(), time.process_time() - worked, captions


def measure(tasks: Sequence[Task], params: CaptionParams, execution: ExecutionParams) -> dict[str, Any]:
    """Return seconds of the start, pictures per second after it, and the captions."""
    asked = time.time()
    made = list(run(Captioning(params), tasks, execution))
    first, last = min(each[0] for each in made), max(each[1] for each in made)
    pictures = sum(len(ids) for ids, _ in tasks)
    return {
        "start_seconds": first - asked,
        "pictures_per_second": pictures / (last - first),
        "processor_seconds_per_picture": sum(each[2] for each in made) / pictures,
        "captions": [each[3] for each in made],
    }


def main(
    pictures: int = 96,
    shard: int = 8,
    captions: int = 4,
    engines: str = "processes,ray",
    json: JsonFile = None,
) -> None:
    """Print the figures of every engine and number of workers."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # Ray's workers look there
    params = CaptionParams(captions_per_image=captions, batch_size=shard)
    images = [render(picture) for picture in held_out_pictures(1, pictures)]
    ids = [str(number) for number in range(pictures)]
    tasks = [(ids[start : start + shard], images[start : start + shard]) for start in range(0, pictures, shard)]
    one = partial(measure, tasks, params)
    found = {"here": one(ExecutionParams())}
    for engine in engines.split(","):
        for workers in (1, 2):
            execution = ExecutionParams.model_validate({"engine": engine, "workers": workers})
            found[f"{engine}, {workers} worker{'s' * (workers > 1)}"] = one(execution)
    found["here, again"] = one(ExecutionParams())
    want = found["here"]["captions"]
    baseline = max(found[name]["pictures_per_second"] for name in ("here", "here, again"))
    print(f"{'engine':24}{'start':>8}{'rate':>14}{'ratio':>8}{'work':>10}  captions")
    for name, figures in found.items():
        figures["ratio"] = figures["pictures_per_second"] / baseline
        figures["same_captions"] = figures.pop("captions") == want
        rate, same = f"{figures['pictures_per_second']:.2f}/s", "the same" if figures["same_captions"] else "others"
        work = f"{figures['processor_seconds_per_picture']:.3f} s"
        print(f"{name:24}{figures['start_seconds']:>6.1f} s{rate:>14}{figures['ratio']:>8.2f}{work:>10}  {same}")
    print(f"ratio: to the better baseline; {os.cpu_count()} cores, {platform.machine()}, one thread per worker")
    write_figures(json, found)
    if not all(figures["same_captions"] for figures in found.values()):
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
