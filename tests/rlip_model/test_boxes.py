"""Properties of box arithmetic."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlip_model.boxes import generalized_iou, inverse_sigmoid, iou, to_corners, to_pixels

fractions = st.floats(0.0, 1.0, width=32)
box = st.tuples(fractions, fractions, fractions, fractions)
solid = st.tuples(fractions, fractions, st.floats(0.01, 1.0), st.floats(0.01, 1.0))


def tensor(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@given(box)
def test_corners_have_the_centre_between_them(values: tuple[float, ...]) -> None:
    low, high = to_corners(tensor(values)).split(2)
    torch.testing.assert_close((low + high) / 2, tensor(values)[:2])
    torch.testing.assert_close(high - low, tensor(values)[2:])


whole = st.integers(0, 30)


@given(st.tuples(whole, whole, whole, whole), st.tuples(whole, whole, whole, whole), st.sampled_from([0.0, 1.0]))
def test_iou_counts_pixels(a: tuple[int, ...], b: tuple[int, ...], side: float) -> None:
    """`side` 1: the shared and covered pixels of inclusive boxes, counted one by one; 0: of boxes without their last pixel."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a, b
    cells = [
        {(x, y) for x in range(left, left + w + int(side)) for y in range(top, top + h + int(side))}
        for left, top, w, h in (a, b)
    ]
    want = len(cells[0] & cells[1]) / max(len(cells[0] | cells[1]), 1)
    got = iou((ax, ay, ax + aw, ay + ah), (bx, by, bx + bw, by + bh), side)
    assert abs(float(got) - want) < 1e-12


def test_iou_of_inclusive_boxes() -> None:
    assert iou((0, 0, 99, 99), (0, 0, 99, 79), side=1) == 0.8
    assert iou((0, 0, 9, 9), (10, 0, 19, 9), side=1) == 0
    assert iou((0, 0, 9, 9), (9, 0, 18, 9), side=1) == 10 / 190


def test_iou_of_each_with_each() -> None:
    boxes = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 5, 9], [9, 9, 4, 4]], np.float32)
    table = iou(boxes[:, None], boxes[None])
    np.testing.assert_allclose(table[:2, :2], [[1, 1 / 3], [1 / 3, 1]], rtol=1e-6)
    assert not table[2:].any()


@given(box, box)
def test_range_and_symmetry(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    value = generalized_iou(tensor(a), tensor(b))
    assert torch.isfinite(value)
    assert -1 - 1e-9 <= value <= 1 + 1e-9
    torch.testing.assert_close(value, generalized_iou(tensor(b), tensor(a)))


@given(solid)
def test_a_box_with_itself_is_one(a: tuple[float, ...]) -> None:
    torch.testing.assert_close(generalized_iou(tensor(a), tensor(a)), torch.ones((), dtype=torch.float64))


@given(solid, solid, st.floats(-2, 2), st.floats(0.1, 5))
def test_does_not_depend_on_place_and_scale(
    a: tuple[float, ...], b: tuple[float, ...], shift: float, scale: float
) -> None:
    move = torch.tensor([shift, -shift, 0, 0], dtype=torch.float64)
    moved = generalized_iou(tensor(a) * scale + move, tensor(b) * scale + move)
    torch.testing.assert_close(moved, generalized_iou(tensor(a), tensor(b)), atol=1e-9, rtol=1e-7)


@given(solid, solid)
@settings(max_examples=50)
def test_agrees_with_areas_counted_by_hand(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = (to_corners(tensor(x)).tolist() for x in (a, b))
    overlap = max(0.0, min(ax1, bx1) - max(ax0, bx0)) * max(0.0, min(ay1, by1) - max(ay0, by0))
    union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - overlap
    hull = (max(ax1, bx1) - min(ax0, bx0)) * (max(ay1, by1) - min(ay0, by0))
    want = overlap / union - (hull - union) / hull
    assert abs(float(generalized_iou(tensor(a), tensor(b))) - want) < 1e-9


def test_boxes_without_area_have_finite_gradients() -> None:
    a = torch.zeros(4, requires_grad=True)
    generalized_iou(a, torch.zeros(4)).backward()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()


def test_pixels_use_width_for_x() -> None:
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.4]]])
    got = to_pixels(boxes, torch.tensor([[100, 200]]))
    torch.testing.assert_close(got, torch.tensor([[[80.0, 30.0, 120.0, 70.0]]]))


@given(st.floats(0.001, 0.999))
def test_inverse_sigmoid(x: float) -> None:
    torch.testing.assert_close(inverse_sigmoid(tensor((x,))).sigmoid(), tensor((x,)))


def test_inverse_sigmoid_is_finite_at_the_ends() -> None:
    assert torch.isfinite(inverse_sigmoid(torch.tensor([-1.0, 0.0, 1.0, 2.0]))).all()
