"""The bag form of deformable attention against grid sampling, values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import tests.support.plain_network as plain
from rlip_model.kernels import deformable_attention
from rlip_model.kernels.deformable_attention import sample_bags
from rlip_model.layers import DeformableAttention, Memory

SHAPES = ((6, 9), (3, 5), (2, 3), (1, 2))
CELLS = sum(height * width for height, width in SHAPES)


def make(
    points: int, boxes: bool, dtype: torch.dtype = torch.float64
) -> tuple[DeformableAttention, Tensor, Tensor, Memory]:
    layer = DeformableAttention(width=24, heads=3, levels=4, points=points).to(dtype)
    with torch.no_grad():
        layer.offsets.weight.normal_(std=0.6)
        layer.weights.weight.normal_()
    queries = torch.randn(2, 7, 24, dtype=dtype)
    references = torch.rand(2, 7, 4, 4 if boxes else 2, dtype=dtype) * 1.6 - 0.3
    padding = torch.rand(2, CELLS) < 0.2
    memory = Memory(torch.randn(2, CELLS, 24, dtype=dtype), padding, SHAPES, torch.ones(2, 4, 2, dtype=dtype))
    return layer, queries, references, memory


def official(layer: DeformableAttention) -> dict[str, Tensor]:
    names = {
        "offsets": "sampling_offsets",
        "weights": "attention_weights",
        "values": "value_proj",
        "output": "output_proj",
    }
    parts = {key: key.split(".") for key in layer.state_dict()}
    return {f"a.{names[part[0]]}.{part[1]}": getattr(getattr(layer, part[0]), part[1]) for part in parts.values()}


@pytest.mark.parametrize("boxes", [False, True], ids=["points", "boxes"])
@pytest.mark.parametrize("points", [1, 2, 4])
@pytest.mark.parametrize("dense_cells", [0, 10_000], ids=["bag_gradient", "dense_gradient"])
def test_agrees_with_grid_sampling(boxes: bool, points: int, dense_cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deformable_attention, "DENSE_CELLS", dense_cells)
    monkeypatch.setattr(deformable_attention, "DENSE_BLOCK", 1)
    layer, queries, references, memory = make(points, boxes)
    queries.requires_grad_()
    references.requires_grad_()
    memory.tokens.requires_grad_()
    inputs = [queries, references, memory.tokens, *layer.parameters()]
    mine = layer(queries, references, memory)
    want = plain.deformable(
        official(layer), "a", queries, references, memory.tokens, memory.padding, list(SHAPES), layer.heads
    )
    torch.testing.assert_close(mine, want)
    probe = torch.randn_like(want)
    for a, b in zip(torch.autograd.grad(mine, inputs, probe), torch.autograd.grad(want, inputs, probe), strict=True):
        torch.testing.assert_close(a, b)


@settings(max_examples=30)
@given(shapes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=3), seed=st.integers(0, 9))
def test_both_gradients_agree_on_all_shapes(shapes: list[tuple[int, int]], seed: int) -> None:
    """Also on maps of one row or column, and for points on cells, on borders and outside."""
    draw = torch.Generator().manual_seed(seed)
    cells, samples = sum(height * width for height, width in shapes), 2 * len(shapes)
    values = torch.randn(2, cells, 2, 3, generator=draw, dtype=torch.float64)
    positions = torch.randint(-6, 15, (2, 9, 2, 2, samples), generator=draw).double() / 2
    weights = torch.rand(2, 9, 2, samples, generator=draw, dtype=torch.float64)
    inputs = [tensor.requires_grad_() for tensor in (values, positions, weights)]
    found = []
    for limit in (0, 10_000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(deformable_attention, "DENSE_CELLS", limit)
            result = sample_bags(values, shapes, positions, weights)
            found.append([result, *torch.autograd.grad(result, inputs, torch.ones_like(result).cumsum(1))])
    for sorted_points, dense in zip(*found, strict=True):
        torch.testing.assert_close(sorted_points, dense)


@pytest.mark.parametrize("dense_cells", [0, 10_000], ids=["bag_gradient", "dense_gradient"])
def test_many_bags_are_summed_a_part_at_a_time(dense_cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a GPU without Triton must, where one call's backward pass would read outside its arrays."""
    monkeypatch.setattr(deformable_attention, "DENSE_CELLS", dense_cells)
    layer, queries, references, memory = make(2, boxes=True)
    inputs = [queries.requires_grad_(), memory.tokens.requires_grad_(), *layer.parameters()]
    calls: list[int] = []
    bag = F.embedding_bag

    def counted(*arguments: Any, **named: Any) -> Tensor:
        calls.extend(rows.numel() for rows in arguments[:1])  # other calls name their arguments
        return bag(*arguments, **named)

    monkeypatch.setattr(F, "embedding_bag", counted)
    found = []
    for most in (deformable_attention.BAG_THREADS, 5 * 32 * 32):
        calls.clear()
        monkeypatch.setattr(deformable_attention, "BAG_THREADS", most)
        result = layer(queries, references, memory)
        found.append([result, *torch.autograd.grad(result, inputs, torch.ones_like(result).cumsum(1))])
        assert calls[0] == min(2 * 7 * 3, most // (32 * 32)) * 32  # bags of 32 samples, of whole warps
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(whole, parts)


def test_same_values_with_and_without_gradient() -> None:
    layer, queries, references, memory = make(2, boxes=True)
    with torch.no_grad():
        silent = layer(queries, references, memory)
    torch.testing.assert_close(layer(queries, references, memory), silent, atol=0, rtol=0)


def test_far_outside_is_zero() -> None:
    values = torch.ones(1, CELLS, 2, 3)
    for far in (-1e30, -3.0, 1e4, 1e30):
        positions = torch.full((1, 1, 2, 2, 4), far)
        assert not sample_bags(values, SHAPES, positions, torch.full((1, 1, 2, 4), 0.25)).any()


def test_cell_centres_give_the_cells() -> None:
    values = torch.randn(1, CELLS, 1, 5)
    for level, (height, width) in enumerate(SHAPES):
        first = sum(h * w for h, w in SHAPES[:level])
        positions, weights = torch.zeros(1, height * width, 2, 1, 4), torch.zeros(1, height * width, 1, 4)
        weights[..., level] = 1.0
        cell = torch.arange(height * width)
        positions[0, :, 0, 0, level], positions[0, :, 1, 0, level] = cell % width, cell // width
        read = sample_bags(values, SHAPES, positions, weights)[0]
        torch.testing.assert_close(read, values[0, first : first + height * width, 0])


def test_fresh_offsets_form_rings() -> None:
    layer = DeformableAttention(width=32, heads=8, levels=4, points=4)
    ring = layer.offsets.bias.view(8, 4, 4, 2)
    step = torch.arange(1.0, 5.0)
    torch.testing.assert_close(ring.abs().amax(-1), step.expand(8, 4, 4))
    torch.testing.assert_close(ring[0, 0, :, 0], step)
    torch.testing.assert_close(ring[2, 3, :, 1], step)
    torch.testing.assert_close(ring[1, 0, 0], torch.tensor([1.0, 1.0]))
    assert not layer.offsets.weight.any()
