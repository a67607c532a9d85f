"""The Triton kernels against the form in stock PyTorch: under Triton's interpreter everywhere, on the device where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from rlip_model.kernels.deformable_attention import TRITON, has_kernels
from rlip_model.kernels.deformable_attention import sample_bags as reference

SHAPES = ((5, 7), (2, 1))
CELLS = sum(height * width for height, width in SHAPES)
needs_triton = pytest.mark.triton


def inputs(device: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Two images, 33 queries (one more than a program takes), 2 heads of 5 channels, 1 point a level; some lie far outside."""
    values = torch.randn(2, CELLS, 2, 5, dtype=dtype)
    positions = torch.rand(2, 33, 2, 2, 2, dtype=dtype) * 12 - 3
    positions[0, 0] = 1e30
    positions[0, 1] = -1e30
    weights = torch.rand(2, 33, 2, 2, dtype=dtype)
    return tuple(x.to(device).requires_grad_() for x in (values, positions, weights))  # type: ignore[return-value]


def agree(kernels: ModuleType, given: tuple[Tensor, Tensor, Tensor]) -> None:
    values, positions, weights = given
    mine, want = kernels.sample_bags(values, SHAPES, positions, weights), _plain(values, positions, weights)
    torch.testing.assert_close(mine, want)
    probe = torch.randn_like(want)
    for a, b in zip(torch.autograd.grad(mine, given, probe), torch.autograd.grad(want, given, probe), strict=True):
        torch.testing.assert_close(a, b)


def _plain(values: Tensor, positions: Tensor, weights: Tensor) -> Tensor:
    """The reference on the CPU, where it never takes the kernels."""
    return reference(values.cpu(), SHAPES, positions.cpu(), weights.cpu()).to(values.device)


def kernels_agree() -> None:
    """Check values and gradients of the kernels against the reference."""
    from rlip_model.kernels import triton_attention

    agree(triton_attention, inputs("cpu"))


def lower_precision_keeps_places_exact() -> None:
    """Check values in bf16 with places, shares and sums in fp32, as under bf16 autocast."""
    from rlip_model.kernels import triton_attention

    values, positions, weights = (x.detach() for x in inputs("cpu", torch.float32))
    narrow = values.bfloat16()
    mine = triton_attention.sample_bags(narrow, SHAPES, positions, weights)
    assert mine.dtype == torch.float32
    torch.testing.assert_close(mine, reference(narrow.float(), SHAPES, positions, weights), atol=1e-5, rtol=1e-5)


@needs_triton
@pytest.mark.parametrize("check", [kernels_agree, lower_precision_keeps_places_exact], ids=lambda check: check.__name__)
def test_under_the_interpreter(check: Callable[[], None]) -> None:
    """Triton chooses its interpreter when it is first imported, so each check has a process of its own."""
    code = f"from tests.rlip_model.kernels.test_triton_attention import {check.__name__} as check; check()"
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from rlip_model.kernels import triton_attention as kernels

pointers = dict.fromkeys(("positions", "weights", "result", "grad_result", "grad_values"), "*fp32")
pointers |= {"values": "*bf16", "levels": "*i32", "grad_positions": "*fp32", "grad_weights": "*fp32"}
sizes = {"HEADS": 8, "LEVELS": 4, "POINTS": 4, "WIDTH": 32, "BLOCK": kernels.QUERIES_AT_ONCE, "CHANNELS": 32}
for kernel in (kernels._forward, kernels._backward):
    signature = {name: pointers.get(name, "constexpr" if name in sizes else "i32") for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=sizes)
    assert ".target sm_90" in triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
"""


@needs_triton
def test_kernels_compile_for_a_device_that_is_not_here(tmp_path: Path) -> None:
    """To PTX for compute capability 9.0, by the real compiler: the interpreter lets more pass, and leaves Triton changed."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    (tmp_path / "compile.py").write_text(COMPILE)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "compile.py")], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_device_kernels_agree() -> None:
    from rlip_model.kernels import triton_attention

    agree(triton_attention, inputs("cuda"))


def test_kernels_are_chosen_for_cuda_alone() -> None:
    assert not has_kernels(torch.device("cpu"))
    assert has_kernels(torch.device("cuda")) == TRITON
