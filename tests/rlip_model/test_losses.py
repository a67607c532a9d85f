"""Loss terms against sums written out, and their behaviour at the edges."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from rlip_model.boxes import generalized_iou
from rlip_model.losses import (
    TERM_NAMES,
    LossConfig,
    Losses,
    RelationCriterion,
    focal_loss,
    label_distances,
    pseudo_relations,
    quality_focal_loss,
)
from rlip_model.matching import Targets, concatenate
from rlip_model.model import ModelOutput
from tests.rlip_model.test_matching import OBJECTS, RELATIONS, random_output
from tests.support.network_cases import make_targets

POOLED = torch.randn(OBJECTS + RELATIONS, 16, generator=torch.Generator().manual_seed(3))


def run(output: ModelOutput, targets: list[Targets], **changes: object) -> Losses:
    return RelationCriterion(LossConfig(**changes))(output, targets, POOLED, OBJECTS)  # type: ignore[arg-type]


def test_focal_loss_written_out() -> None:
    logits = torch.tensor([[[0.3, -1.2], [2.0, 0.1]]])
    targets = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    total = 0.0
    for z, y in zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-z))
        total -= math.log(p) * (1 - p) ** 2 if y else math.log(1 - p) * p**2
    assert focal_loss(logits, targets).item() == pytest.approx(total, rel=1e-5)
    assert focal_loss(logits, torch.zeros_like(targets)).item() > 0


def test_quality_focal_loss_written_out() -> None:
    logits = torch.tensor([[[0.3, -1.2, 0.7]]])
    targets = torch.tensor([[[0.8, 0.0, 0.4]]])
    total = 0.0
    for z, y in zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-z))
        total -= (y - p) ** 2 * (y * math.log(p) + (1 - y) * math.log(1 - p))
    assert quality_focal_loss(logits, targets).item() == pytest.approx(total, rel=1e-5)


def test_label_distances_are_pairwise_distances() -> None:
    """With gradient; the second label occurs twice, where a bare Euclidean distance has none."""
    vectors = torch.randn(6, 9, dtype=torch.float64)[[0, 1, 2, 1, 3, 4]].requires_grad_()
    ours, theirs = label_distances(vectors), torch.nn.functional.pairwise_distance(vectors[:, None], vectors[None])
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)
    probe = torch.randn_like(theirs)
    gradients = [torch.autograd.grad(distances, vectors, probe)[0] for distances in (ours, theirs)]
    torch.testing.assert_close(*gradients, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("assignment", ["hungarian", "slots"])
@pytest.mark.parametrize("pseudo", [True, False])
def test_counts_are_known_before_the_network_has_run(assignment: str, pseudo: bool) -> None:
    """From targets alone, the counts that the criterion finds on its matches; and what the relation term is divided by."""
    output, targets = random_output(2, 2, 5), [make_targets(n, OBJECTS, RELATIONS) for n in (3, 2)]
    targets[0].obj_boxes[1] = 0.0
    criterion = RelationCriterion(LossConfig(pseudo_relations=pseudo, assignment=assignment))  # type: ignore[arg-type]
    losses, counts = criterion(output, targets, POOLED, OBJECTS), criterion.counts(targets, 5, POOLED, OBJECTS)
    torch.testing.assert_close(losses.counts.values, counts.values.expand(-1, 2), rtol=1e-6, atol=1e-6)
    relations = sum(int((target.relations > 0).sum()) for target in targets)
    assert counts.values[1:3].flatten().tolist() == [5, 4]
    assert (counts.values[3].item() > relations) if pseudo else (counts.values[3].item() == relations)
    weight = 5 if assignment == "slots" else 5.5
    assert counts.values[0].item() == pytest.approx(weight)
    assert losses.terms["relation"].item() == pytest.approx(losses.sums[1, 1].item() / counts.values[3].item())


def test_parts_divided_by_the_counts_of_the_whole_add_up_to_it() -> None:
    output, targets = random_output(2, 2, 5), [make_targets(n, OBJECTS, RELATIONS) for n in (3, 1)]
    criterion = RelationCriterion(LossConfig())
    whole = criterion(output, targets, POOLED, OBJECTS)
    images = [
        ModelOutput(**{name: value[:, row : row + 1] for name, value in vars(output).items()}) for row in range(2)
    ]
    parts = [criterion(image, [target], POOLED, OBJECTS) for image, target in zip(images, targets, strict=True)]
    counts = parts[0].counts + parts[1].counts
    torch.testing.assert_close(sum(part.divided(counts.divisors())[0] for part in parts), whole.total)
    published = [part.divided(part.counts.published_divisors(counts, 2)) for part in parts]
    for name in TERM_NAMES:
        mean = (parts[0].terms[name] + parts[1].terms[name]) / 2
        want = whole.terms[name] if name.startswith("sub_") else mean
        torch.testing.assert_close(published[0][1][name] + published[1][1][name], want)


@pytest.mark.parametrize("quality", [True, False])
def test_ignored_cells_cost_nothing_and_the_others_what_they_did(quality: bool) -> None:
    """A cell's object is that of the target for a matched pair, and the likeliest real object for any other."""
    output, targets = random_output(2, 2, 5), [make_targets(n, OBJECTS, RELATIONS) for n in (3, 2)]
    ignored = torch.rand(OBJECTS, RELATIONS) < 0.4
    ignored[-1] = False
    for target in targets:
        target.relations[ignored[target.obj_labels]] = 0.0
    output.relation_logits.requires_grad_()
    criterion = RelationCriterion(LossConfig(relational_quality=quality))
    whole = criterion(output, targets, POOLED, OBJECTS)
    less = criterion(output, targets, POOLED, OBJECTS, ignored)
    for counted in (less.counts, criterion.counts(targets, 5, POOLED, OBJECTS, ignored)):
        torch.testing.assert_close(counted.values.expand(-1, 2), whole.counts.values)
    cells = torch.zeros_like(output.relation_logits, dtype=torch.bool)
    labels = concatenate(targets).obj_labels
    for layer in range(2):
        matches = whole.matches
        own = {
            (int(image), int(pair)): int(labels[target])
            for image, pair, target in zip(
                matches.image[layer], matches.pair[layer], matches.target[layer], strict=True
            )
        }
        for image in range(2):
            for pair in range(5):
                likeliest = int(output.obj_logits[layer, image, pair, :-1].argmax())
                cells[layer, image, pair] = ignored[own.get((image, pair), likeliest)]
    chance = output.relation_logits.sigmoid()
    left_out = (-(1 - chance).log() * chance**2 * cells).sum((1, 2, 3))
    torch.testing.assert_close(less.sums[1], whole.sums[1] - left_out, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(less.sums[[0, 2, 3, 4, 5]], whole.sums[[0, 2, 3, 4, 5]])
    (gradient,) = torch.autograd.grad(less.total, output.relation_logits)
    assert torch.isfinite(gradient).all()
    assert not gradient[cells].any()
    assert gradient[~cells].all()


def test_a_positive_target_is_trained_in_an_ignored_cell_too() -> None:
    """Own labels name unseen combinations that are never trained as negatives."""
    output, (target,) = random_output(1, 1, 4), [make_targets(2, OBJECTS, RELATIONS)]
    ignored = torch.ones(OBJECTS, RELATIONS, dtype=torch.bool)
    target.relations[:] = 0.0
    target.relations[0, 1] = 0.6
    output.relation_logits.requires_grad_()
    criterion = RelationCriterion(LossConfig(pseudo_relations=False))
    losses = criterion(output, [target], POOLED, OBJECTS, ignored)
    assert losses.counts.values[3].tolist() == [1]
    assert criterion.counts([target], 4, POOLED, OBJECTS, ignored).values[3].tolist() == [1]
    (gradient,) = torch.autograd.grad(losses.total, output.relation_logits)
    matches = losses.matches
    (place,) = (matches.target[0] == 0).nonzero(as_tuple=True)
    assert gradient.nonzero().tolist() == [[0, 0, int(matches.pair[0, place]), 1]]


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[[200.0, -200.0]]], requires_grad=True)
    loss = (
        focal_loss(logits, torch.tensor([[[0.0, 1.0]]])).sum()
        + quality_focal_loss(logits, torch.tensor([[[0.0, 0.5]]])).sum()
    )
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_box_terms_written_out() -> None:
    output, targets = random_output(2, 2, 5), [make_targets(n, OBJECTS, RELATIONS) for n in (3, 2)]
    targets[0].obj_boxes[1] = 0.0
    losses = run(output, targets)
    flat, matches = concatenate(targets), losses.matches
    for layer, suffix in ((1, ""), (0, "_0")):
        sub_l1 = obj_l1 = sub_giou = obj_giou = 0.0
        for image, pair, t in zip(matches.image[layer], matches.pair[layer], matches.target[layer], strict=True):
            sub, obj = output.sub_boxes[layer, image, pair], output.obj_boxes[layer, image, pair]
            sub_l1 += float((sub - flat.sub_boxes[t]).abs().sum())
            sub_giou += 1 - float(generalized_iou(sub, flat.sub_boxes[t]))
            if flat.obj_boxes[t].any():
                obj_l1 += float((obj - flat.obj_boxes[t]).abs().sum())
                obj_giou += 1 - float(generalized_iou(obj, flat.obj_boxes[t]))
        assert losses.terms[f"sub_l1{suffix}"].item() == pytest.approx(sub_l1 / 5, rel=1e-5)
        assert losses.terms[f"sub_giou{suffix}"].item() == pytest.approx(sub_giou / 5, rel=1e-5)
        assert losses.terms[f"obj_l1{suffix}"].item() == pytest.approx(obj_l1 / 4.0001, rel=1e-5)
        assert losses.terms[f"obj_giou{suffix}"].item() == pytest.approx(obj_giou / 4.0001, rel=1e-5)


def test_class_term_is_the_weighted_cross_entropy() -> None:
    output, targets = random_output(1, 2, 5), [make_targets(n, OBJECTS, RELATIONS) for n in (3, 0)]
    losses = run(output, targets)
    weight = torch.ones(OBJECTS)
    weight[-1] = 0.1
    want = 0.0
    for logits, name in ((output.obj_logits, "obj_labels"), (output.sub_logits, "sub_labels")):
        labels = torch.full((2, 5), OBJECTS - 1)
        for pair, t in zip(losses.matches.pair[0], losses.matches.target[0], strict=True):
            labels[0, pair] = vars(targets[0])[name][t]
        want += float(torch.nn.functional.cross_entropy(logits[0].flatten(0, 1), labels.flatten(), weight))
    assert losses.terms["class"].item() == pytest.approx(want, rel=1e-5)
    only_objects = run(output, targets, subject_class=False)
    assert only_objects.terms["class"].item() < want


def test_total_is_the_weighted_sum() -> None:
    losses = run(
        random_output(3, 1, 5), [make_targets(3, OBJECTS, RELATIONS)], classes=2.0, relations=3.0, l1=5.0, giou=7.0
    )
    weights = {"class": 2.0, "relation": 3.0, "sub_l1": 5.0, "obj_l1": 5.0, "sub_giou": 7.0, "obj_giou": 7.0}
    want = sum(weights[name] * losses.terms[name + suffix] for name in TERM_NAMES for suffix in ("", "_0", "_1"))
    assert losses.total.item() == pytest.approx(float(want), rel=1e-5)
    assert len(losses.terms) == 18


def test_better_boxes_make_stronger_relation_targets() -> None:
    """RQL: with perfect boxes the target is 1; with far boxes it is small, so a confident relation costs."""
    target = make_targets(1, OBJECTS, RELATIONS)
    target.relations.zero_()
    target.relations[0, 2] = 1
    output = random_output(1, 1, 1)
    output.relation_logits.fill_(-6.0)
    output.relation_logits[..., 2] = 6.0
    good = replace(output, sub_boxes=target.sub_boxes[None, None, :1], obj_boxes=target.obj_boxes[None, None, :1])
    bad = replace(good, obj_boxes=torch.tensor([[[[0.95, 0.95, 0.01, 0.01]]]]))
    assert run(good, [target]).terms["relation"] < 1e-3
    assert run(bad, [target]).terms["relation"] > 0.1
    assert run(bad, [target], relational_quality=False).terms["relation"] < 1e-3


@pytest.mark.parametrize("assignment", ["hungarian", "slots"])
@pytest.mark.parametrize("quality", [True, False])
def test_batch_without_any_triplet(assignment: str, quality: bool) -> None:
    output = random_output(2, 2, 4)
    for value in vars(output).values():
        value.requires_grad_()
    losses = run(output, [make_targets(0, OBJECTS, RELATIONS)] * 2, assignment=assignment, relational_quality=quality)
    assert torch.isfinite(losses.total)
    losses.total.backward()
    assert losses.terms["sub_l1"] == losses.terms["obj_giou"] == 0
    if assignment == "hungarian":
        assert losses.terms["class"] > 0
        assert losses.terms["relation"] > 0


def test_slots_leave_other_slots_alone() -> None:
    output, targets = random_output(1, 1, 4), [make_targets(2, OBJECTS, RELATIONS)]
    first = run(output, targets, assignment="slots", relational_quality=False)
    for value in vars(output).values():
        value[0, 0, 2:] = 0.123
    assert run(output, targets, assignment="slots", relational_quality=False).total == first.total


def test_pseudo_relations_written_out() -> None:
    vectors = torch.randn(4, 8, dtype=torch.float64)
    relations = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]], dtype=torch.float64)
    got = pseudo_relations(vectors, relations, 0.3)
    distance = torch.tensor([[float((a - b + 1e-6).norm()) for b in vectors] for a in vectors], dtype=torch.float64)
    similarity = distance.max(1, keepdim=True).values - distance
    for row in range(2):
        want = (relations[row, :, None] * similarity).sum(0)
        want = want / want.max()
        want[relations[row] > 0] = 0
        want[want <= 0.3] = 0
        torch.testing.assert_close(got[row], want)
    assert not got[2].any()


def test_pseudo_relations_gradient_can_be_cut() -> None:
    output, targets = random_output(1, 1, 4), [make_targets(3, OBJECTS, RELATIONS)]
    for flows in (True, False):
        pooled = POOLED.clone().requires_grad_()
        criterion = RelationCriterion(LossConfig(pseudo_relations=True, pseudo_threshold=0.0, pseudo_gradient=flows))
        total = criterion(output, targets, pooled, OBJECTS).total
        assert total.requires_grad == flows
        if flows:
            total.backward()
            assert pooled.grad is not None
            assert pooled.grad[OBJECTS:].abs().sum() > 0
            assert not pooled.grad[:OBJECTS].any()


def test_pseudo_relations_need_quality() -> None:
    with pytest.raises(ValueError, match="RPL"):
        LossConfig(pseudo_relations=True, relational_quality=False)
