"""The device under test: timing with events, peaks of memory, precisions, and memory that is made small on purpose."""

from __future__ import annotations

import gc
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

GIGABYTE = 1e9
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
_LOW = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Device:
    """A CUDA device, or the CPU for a dry run, where memory is not measured and lack of it is played."""

    def __init__(self, name: str) -> None:
        """
        Args:
            name: as torch has it: cpu, cuda or cuda:1.
        Raises:
            RuntimeError: there is no such device.
        """
        self.torch = torch.device(name)
        self.is_cuda = self.torch.type == "cuda"
        if self.is_cuda:
            if not torch.cuda.is_available():
                raise RuntimeError("there is no CUDA device here; try the program with --device cpu --tiny")
            # Memory functions want an index, and Triton launches on the current device.
            self.torch = torch.device("cuda", self.torch.index or 0)
            torch.cuda.set_device(self.torch)

    def synchronise(self) -> None:
        """Wait until the device has nothing left to do."""
        if self.is_cuda:
            torch.cuda.synchronize(self.torch)

    def free(self) -> None:
        """Drop what nobody refers to, and give back what torch keeps for later."""
        gc.collect()
        if self.is_cuda:
            torch.cuda.empty_cache()

    def once(self, work: Callable[[], object]) -> float:
        """Return the seconds of a single call, from an idle device to an idle device."""
        self.synchronise()
        started = time.perf_counter()
        work()
        self.synchronise()
        return time.perf_counter() - started

    def seconds(self, work: Callable[[], object], budget: float, most: int = 30) -> float:
        """Return the median seconds of a call, after two calls to warm up.

        Calls follow one another without waiting, as in use; each lies between two events of the device.

        Args:
            budget: seconds that the timed calls should take together; there are at least three.
        """
        self.once(work)
        calls = int(min(max(budget / max(self.once(work), 1e-6), 3), most))
        if not self.is_cuda:
            return statistics.median(self.once(work) for _ in range(calls))
        events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(calls)]
        for start, end in events:
            start.record()
            work()
            end.record()
        self.synchronise()
        return statistics.median(start.elapsed_time(end) for start, end in events) / 1e3

    def peak(self, work: Callable[[], object]) -> float:
        """Return the most gigabytes that were allocated during a call; 0 on a CPU."""
        if not self.is_cuda:
            work()
            return 0.0
        self.free()
        torch.cuda.reset_peak_memory_stats(self.torch)
        work()
        self.synchronise()
        return torch.cuda.max_memory_allocated(self.torch) / GIGABYTE

    def reserved(self, work: Callable[[], object]) -> float:
        """Return the most gigabytes that torch held during a call, pieces that it keeps for later included; 0 on a CPU."""
        self.peak(work)
        return torch.cuda.max_memory_reserved(self.torch) / GIGABYTE if self.is_cuda else 0.0

    def copy_bandwidth(self, megabytes: int) -> float:
        """Return the GB/s of a copy within the device, bytes read and bytes written."""
        source = torch.rand(megabytes * 250_000, device=self.torch)
        target = torch.empty_like(source)
        seconds = self.seconds(lambda: target.copy_(source), 0.3)
        return 2 * source.nbytes / seconds / GIGABYTE

    @contextmanager
    def precision(self, name: str) -> Iterator[None]:
        """Within it: `fp32` without tf32 anywhere, `tf32` with it in products and convolutions, `bf16` and `fp16` by autocast."""
        products: Any = torch.backends.cuda.matmul
        convolutions: Any = torch.backends.cudnn
        before = products.allow_tf32, convolutions.allow_tf32
        products.allow_tf32 = convolutions.allow_tf32 = name == "tf32"
        try:
            with torch.autocast(self.torch.type, _LOW[name]) if name in _LOW else nullcontext():
                yield
        finally:
            products.allow_tf32, convolutions.allow_tf32 = before

    @contextmanager
    def little_memory(self, gigabytes: float, module: nn.Module, rows: int) -> Iterator[None]:
        """Within it torch may hold no more than `gigabytes` of the device, whatever the card has: a limit of this process alone.

        A CPU has no such limit; there `module` refuses inputs of more than `rows` rows, with the device's own error.
        """
        if not self.is_cuda:
            handle = module.register_forward_pre_hook(_refusal(rows))
            try:
                yield
            finally:
                handle.remove()
            return
        self.free()
        total = torch.cuda.get_device_properties(self.torch).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, gigabytes * GIGABYTE / total), self.torch)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, self.torch)
            self.free()

    def facts(self) -> dict[str, Any]:
        """Return what a reader must know of the device."""
        if not self.is_cuda:
            import platform

            return {"device": f"CPU ({platform.machine()})", "threads": torch.get_num_threads()}
        found = torch.cuda.get_device_properties(self.torch)
        return {
            "device": found.name,
            "capability": f"{found.major}.{found.minor}",
            "memory_gb": round(found.total_memory / GIGABYTE, 1),
            "multiprocessors": found.multi_processor_count,
            "driver": _driver(),
        }


def _refusal(rows: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def refuse(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        if len(inputs[0]) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory (played, in a dry run on the CPU)")

    return refuse


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return (
            subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
            .stdout.split("\n")[0]
            .strip()
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
