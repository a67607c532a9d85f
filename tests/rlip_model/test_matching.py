"""The assignment is the cheapest one, and does not depend on the order of targets."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlip_model.boxes import generalized_iou
from rlip_model.matching import MatchCost, Targets, match_hungarian, match_slots, pair_costs
from rlip_model.model import ModelOutput
from tests.support.network_cases import make_targets

OBJECTS, RELATIONS = 6, 5


def random_output(layers: int, batch: int, pairs: int) -> ModelOutput:
    return ModelOutput(
        torch.randn(layers, batch, pairs, OBJECTS),
        torch.randn(layers, batch, pairs, OBJECTS),
        torch.randn(layers, batch, pairs, RELATIONS),
        torch.rand(layers, batch, pairs, 4) * 0.5 + 0.2,
        torch.rand(layers, batch, pairs, 4) * 0.5 + 0.2,
    )


def plain_cost(output: ModelOutput, layer: int, image: int, pair: int, target: Targets, t: int) -> float:
    """The cost of one pair and one target, written out."""
    where = (layer, image, pair)
    total = -float(output.obj_logits[where].softmax(0)[target.obj_labels[t]])
    total -= float(output.sub_logits[where].softmax(0)[target.sub_labels[t]])
    p, y = output.relation_logits[where].sigmoid(), target.relations[t]
    total -= 0.5 * float((p * y).sum() / (y.sum() + 1e-4) + ((1 - p) * (1 - y)).sum() / ((1 - y).sum() + 1e-4))
    sub_l1 = float((output.sub_boxes[where] - target.sub_boxes[t]).abs().sum())
    obj_l1 = float((output.obj_boxes[where] - target.obj_boxes[t]).abs().sum())
    sub = -float(generalized_iou(output.sub_boxes[where], target.sub_boxes[t]))
    obj = -float(generalized_iou(output.obj_boxes[where], target.obj_boxes[t]))
    if not bool(target.obj_boxes[t].any()):
        obj_l1, obj = 0.0, obj + sub
    return total + 2.5 * max(sub_l1, obj_l1) + max(sub, obj)


@given(st.integers(0, 10**6), st.lists(st.integers(0, 4), min_size=1, max_size=3))
@settings(max_examples=25, deadline=None)
def test_costs_are_the_written_out_ones(seed: int, counts: list[int]) -> None:
    torch.manual_seed(seed)
    output = random_output(2, len(counts), 5)
    targets = [make_targets(count, OBJECTS, RELATIONS) for count in counts]
    if counts[0]:
        targets[0].obj_boxes[0] = 0.0
    for image, table in enumerate(pair_costs(output, targets, MatchCost())):
        assert table.shape == (2, 5, counts[image])
        for layer in range(2):
            for pair in range(5):
                for t in range(counts[image]):
                    want = plain_cost(output, layer, image, pair, targets[image], t)
                    assert float(table[layer, pair, t]) == pytest.approx(want, abs=1e-4)


@given(st.integers(0, 10**6), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_no_other_assignment_is_cheaper(seed: int, count: int) -> None:
    torch.manual_seed(seed)
    output, targets = random_output(1, 1, 5), [make_targets(count, OBJECTS, RELATIONS)]
    cost = pair_costs(output, targets, MatchCost())[0][0]
    matches = match_hungarian(output, targets, MatchCost())
    mine = float(cost[matches.pair[0], matches.target[0]].sum())
    best = min(float(cost[list(pairs), range(count)].sum()) for pairs in permutations(range(5), count))
    assert mine == pytest.approx(best, abs=1e-5)
    assert sorted(matches.target[0].tolist()) == list(range(count))
    assert len(set(matches.pair[0].tolist())) == count


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_order_of_targets_does_not_matter(seed: int) -> None:
    torch.manual_seed(seed)
    output, target = random_output(3, 1, 8), make_targets(5, OBJECTS, RELATIONS)
    order = torch.randperm(5)
    shuffled = Targets(**{name: value[order] for name, value in vars(target).items()})
    a, b = (match_hungarian(output, [x], MatchCost()) for x in (target, shuffled))
    for layer in range(3):
        first = dict(zip(a.target[layer].tolist(), a.pair[layer].tolist(), strict=True))
        second = {int(order[t]): p for t, p in zip(b.target[layer].tolist(), b.pair[layer].tolist(), strict=True)}
        assert first == second


def test_more_targets_than_pairs() -> None:
    matches = match_hungarian(
        random_output(2, 2, 3), [make_targets(n, OBJECTS, RELATIONS) for n in (5, 2)], MatchCost()
    )
    assert matches.pair.shape == (2, 5)
    assert matches.image[0].tolist() == [0, 0, 0, 1, 1]
    assert (matches.target[:, 3:] >= 5).all()


def test_nothing_to_match() -> None:
    matches = match_hungarian(random_output(2, 2, 3), [make_targets(0, OBJECTS, RELATIONS)] * 2, MatchCost())
    assert matches.pair.shape == (2, 0)


def test_prediction_that_is_not_finite_is_named() -> None:
    output = random_output(1, 2, 3)
    output.obj_logits[0, 1] = float("nan")
    with pytest.raises(ValueError, match=r"image 1 .* not finite"):
        match_hungarian(output, [make_targets(1, OBJECTS, RELATIONS)] * 2, MatchCost())


def test_slots_keep_their_order() -> None:
    matches = match_slots(random_output(2, 2, 4), [make_targets(n, OBJECTS, RELATIONS) for n in (2, 3)])
    assert matches.pair[1].tolist() == [0, 1, 0, 1, 2]
    assert matches.target[1].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="has 5 pairs, but the tagger has 4 slots"):
        match_slots(random_output(1, 1, 4), [make_targets(5, OBJECTS, RELATIONS)])
