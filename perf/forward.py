"""Time and memory of a forward pass, beside the plain formulation (grid sampling, texts encoded in every call).

    python -m perf.forward [--threads 2] [--repeats 3] [--batch 4] [--compile] [--small] [--json FILE]

The plain formulation is the same network with everything of `plain_forms` in it (grid sampling, whole images in the encoder, frozen
batch normalisation as an operation), so the ratios are about what was changed and not about how the rest happens to be written.

ParSeDA with ResNet-50, 128 queries, one 800 x 1066 image, 81 object and 117 relation texts, fp32. Both forms must give the
same numbers (2e-4). They run in turns in one process and the best of the repeats counts; processor seconds stand beside
the clock, and with the load of the machine they say how idle it was. Peak memory is measured in a fresh process a form, less
what the process holds before its first call. `--small` runs a toy size that only shows that the program works.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

from perf.command import JsonFile, run_command, write_figures
from perf.plain_forms import plain
from rlip_model import ModelConfig, ModelOutput, Rlip, build_model
from rlip_model.fusion import BiFusion
from rlip_model.language_layers import LanguageLayer
from rlip_model.layers import DeformableAttention

TOLERANCE = 2e-4
BARS = {"text cached": 0.55, "text not cached": 0.70, "text cached, compiled": 0.48, "memory": 0.60}


@dataclass
class Case:
    """One network with its input: tokens of the texts, images and their padding."""

    model: Rlip
    ids: Tensor
    images: Tensor
    mask: Tensor
    num_objects: int

    @classmethod
    def make(cls, batch: int, small: bool) -> Case:
        torch.manual_seed(0)
        config = ModelConfig.preset("micro_parseda" if small else "parseda_r50")
        model = build_model(replace(config, queries=24 if small else 128).without_dropout()).eval()
        size, objects, texts = ((96, 128), 7, 12) if small else ((800, 1066), 81, 198)
        ids = torch.randint(5, config.text.vocabulary, (texts, 6))
        ids[:, 0], ids[:, -1] = 0, 2
        mask = torch.zeros(batch, *size, dtype=torch.bool)
        return cls(model, ids, torch.randn(batch, 3, *size), mask, objects)

    def text(self) -> Tensor:
        return self.model.encode_text(self.ids, torch.ones_like(self.ids))

    def own(self, pooled: Tensor) -> ModelOutput:
        output: ModelOutput = self.model(self.images, self.mask, pooled, self.num_objects)
        return output

    def baseline(self) -> ModelOutput:
        with plain():
            return self.own(self.text())


@dataclass
class Timing:
    """Best clock time of some calls and its processor time, in seconds."""

    clock: float = float("inf")
    processor: float = float("inf")

    def add(self, work: Callable[[], Any]) -> None:
        clock, processor = time.perf_counter(), time.process_time()
        work()
        self.clock = min(self.clock, time.perf_counter() - clock)
        self.processor = min(self.processor, time.process_time() - processor)

    def ratio(self, other: Timing) -> tuple[float, float]:
        return self.clock / other.clock, self.processor / other.processor


class Breakdown:
    """Clock time spent in named modules, by hooks; of modules within one of the same name only the outermost counts."""

    def __init__(self, model: Rlip) -> None:
        self.seconds: dict[str, float] = {}
        self._started: dict[str, list[float]] = {}
        parts: list[tuple[str, nn.Module]] = [
            ("text encoder", model.text_encoder),
            ("backbone", model.backbone),
            ("projections and position codes", model.pyramid),
            ("encoder", model.encoder),
            ("entity decoder", model.entity_decoder),
            ("relation decoder", model.relation_decoder),
        ]
        kinds = {"deformable attention": DeformableAttention, "fusion": BiFusion, "language layers": LanguageLayer}
        for module in model.encoder.modules():
            parts += [(f"- {name}", module) for name, kind in kinds.items() if isinstance(module, kind)]
            if isinstance(module, DeformableAttention):
                parts.append(("- deformable attention", module.values))
        self._handles = [handle for name, module in parts for handle in self._watch(name, module)]

    def _watch(self, name: str, module: nn.Module) -> list[Any]:
        started = self._started.setdefault(name, [])

        def before(*_: object) -> None:
            started.append(time.perf_counter())

        def after(*_: object) -> None:
            seconds = time.perf_counter() - started.pop()
            if not started:
                self.seconds[name] = self.seconds.get(name, 0.0) + seconds

        return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


@torch.no_grad()
def largest_difference(case: Case) -> float:
    """Largest difference of any output of any layer between the two forms."""
    own, want = vars(case.own(case.text())), vars(case.baseline())
    return max(float((own[name] - value).abs().max()) for name, value in want.items())


@torch.no_grad()
def measure(case: Case, several: Case, repeats: int, compiled: bool) -> dict[str, Any]:
    """All timings of one process, forms in turns."""
    difference = largest_difference(case)
    pooled = case.text()
    forms: dict[str, Callable[[], Any]] = {
        "plain": lambda: case.baseline(),
        "text cached": lambda: case.own(pooled),
        "text not cached": lambda: case.own(case.text()),
        f"batch of {len(several.images)}": lambda: several.own(pooled),
    }
    if compiled:
        network = torch.compile(case.model)
        forms["text cached, compiled"] = lambda: network(case.images, case.mask, pooled, case.num_objects)
    timings = {name: Timing() for name in forms}
    for work in forms.values():
        work()
    for _ in range(repeats):
        for name, work in forms.items():
            timings[name].add(work)
    breakdown = Breakdown(case.model)
    case.own(case.text())
    breakdown.remove()
    return {"difference": difference, "timings": timings, "breakdown": breakdown.seconds}


def peak_memory(form: str, small: bool, threads: int) -> float:
    """Megabytes that a form needs beyond what the process holds before its first call, in a fresh process."""
    command = [sys.executable, __file__, "--memory-of", form, "--threads", str(threads)] + ["--small"] * small
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@torch.no_grad()
def print_memory(form: str, small: bool) -> None:
    case = Case.make(1, small)
    pooled = case.text() if form == "own" else None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if pooled is None:
        case.baseline()
    else:
        case.own(pooled)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def report(found: dict[str, Any], memory: dict[str, float]) -> dict[str, Any]:
    """Print the table and return it as JSON-ready values."""
    timings: dict[str, Timing] = found["timings"]
    base = timings["plain"]
    print(f"largest difference of outputs {found['difference']:.1e} (tolerance {TOLERANCE:.0e})\n")
    print(f"{'form':28} {'clock s':>8} {'cpu s':>8} {'ratio':>7} {'cpu ratio':>10}   bar")
    rows: dict[str, Any] = {}
    for name, timing in timings.items():
        images = int(name.split()[-1]) if name.startswith("batch of") else 1
        clock, processor = (value / images for value in timing.ratio(base))
        bar = f"{BARS[name]:.2f}" if name in BARS else ""
        print(f"{name:28} {timing.clock:8.2f} {timing.processor:8.2f} {clock:7.2f} {processor:10.2f}   {bar}")
        rows[name] = {"clock_s": timing.clock, "cpu_s": timing.processor, "ratio": clock, "cpu_ratio": processor}
    share = memory["own"] / memory["plain"]
    print(f"\npeak memory {memory['own']:.0f} of {memory['plain']:.0f} MB: {share:.2f}   bar {BARS['memory']:.2f}\n")
    print("breakdown of one own call, seconds:")
    for name, seconds in found["breakdown"].items():
        print(f"  {name:32} {seconds:6.2f}")
    return {"difference": found["difference"], "forms": rows, "memory_mb": memory, "breakdown_s": found["breakdown"]}


def main(
    threads: int = 2,
    repeats: int = 3,
    batch: int = 4,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Also time torch.compile (needs a C++ compiler).")
    ] = False,
    small: Annotated[bool, typer.Option("--small")] = False,
    json_file: JsonFile = None,
    memory_of: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Print the figures."""
    torch.set_num_threads(threads)
    if memory_of:
        print_memory(memory_of, small)
        return
    print(f"{platform.machine()}, torch {torch.__version__}, {threads} threads, load {os.getloadavg()[0]:.1f}\n")
    memory = {form: peak_memory(form, small, threads) for form in ("plain", "own")}
    case, several = Case.make(1, small), Case.make(batch, small)
    several.model = case.model
    table = report(measure(case, several, repeats, compiled), memory)
    write_figures(json_file, table)
    sys.exit(0 if table["difference"] <= TOLERANCE else 1)


if __name__ == "__main__":
    run_command(main)
