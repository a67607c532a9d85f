"""R-Tagger: slots, noise and the leak guard."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from rlip_model.model import Rlip, build_model
from rlip_model.tagger import PairNoise, TaggerPairs, collate_pairs, leak_guard, perturb_pairs, score_pairs
from tests.support.network_cases import make_batch, shake, small


def tagger() -> Rlip:
    model = build_model(small("micro_tagger")).eval()
    shake(model)
    return model


def _select(pairs: TaggerPairs, place: Any) -> TaggerPairs:
    """The pairs without `blocked`, each field at `place`."""
    return TaggerPairs(*(getattr(pairs, field.name)[place] for field in fields(pairs)[:5]))


def test_answers_stay_in_their_slots_and_empty_slots_do_not_matter() -> None:
    model = tagger()
    batch = make_batch(model.config, counts=(3, 2))
    pairs = batch.pairs(6)
    arguments = (batch.images, batch.mask, batch.pooled, batch.num_objects)
    order = torch.tensor([2, 0, 1, 3, 4, 5])
    moved = _select(pairs, (slice(None), order))
    noisy = replace(
        pairs,
        sub_boxes=torch.where(pairs.valid[..., None], pairs.sub_boxes, 0.77),
        obj_labels=torch.where(pairs.valid, pairs.obj_labels, 3),
    )
    with torch.no_grad():
        for name, rows in (("relation_content", 12), ("relation_position", 6)):
            rows_alike = model.get_parameter(f"queries.{name}")
            rows_alike.copy_(rows_alike[:1].expand(rows, -1))
        plain, shuffled, other = (model(*arguments, pairs=p).relation_logits for p in (pairs, moved, noisy))
    torch.testing.assert_close(shuffled[:, 0, :3], plain[:, 0, order[:3]], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(other[:, 0, :3], plain[:, 0, :3], atol=1e-6, rtol=1e-6)
    assert (shuffled[:, 0, :3] - plain[:, 0, :3]).abs().max() > 1e-3


def test_image_without_pairs_gives_numbers() -> None:
    model = tagger()
    batch = make_batch(model.config, counts=(3, 0))
    with torch.no_grad():
        p = batch.pairs(6)
        output = model(batch.images, batch.mask, batch.pooled, batch.num_objects, pairs=p)
        alone = model(
            batch.images[:1],
            batch.mask[:1],
            batch.pooled,
            batch.num_objects,
            pairs=collate_pairs(
                [(p.sub_boxes[0, :3], p.obj_boxes[0, :3], p.sub_labels[0, :3], p.obj_labels[0, :3])], 6
            ),
        )
    assert all(torch.isfinite(value).all() for value in vars(output).values())
    torch.testing.assert_close(
        output.relation_logits[:, :1, :3], alone.relation_logits[..., :3, :], atol=1e-5, rtol=1e-5
    )


def test_fresh_references_are_the_box_centres() -> None:
    model = build_model(small("micro_tagger"))
    batch = make_batch(model.config)
    pairs = batch.pairs(6)
    start = model.queries(pairs, torch.randn(1, 12, model.config.width))
    torch.testing.assert_close(start.sub_reference[0, :3], pairs.sub_boxes[0, :3, :2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(start.obj_reference[1, :2], pairs.obj_boxes[1, :2, :2], atol=1e-4, rtol=1e-4)


def test_content_is_the_label_without_gradient() -> None:
    model = build_model(small("micro_tagger"))
    pairs = make_batch(model.config).pairs(6)
    labels = torch.randn(2, 12, model.config.width, requires_grad=True)
    content = model.queries(pairs, labels).content
    assert torch.equal(content[1, 6], labels[1, pairs.obj_labels[1, 0]])
    assert not content.requires_grad
    assert not content[0, 3:6].any()


def test_box_noise_keeps_its_limits() -> None:
    boxes = torch.tensor([0.5, 0.5, 0.2, 0.1]).expand(400, 4)
    labels = torch.zeros(400, dtype=torch.int64)
    pairs = collate_pairs([(boxes, boxes, labels, labels)], 400)
    noisy = perturb_pairs(pairs, PairNoise(label=0.0, box=0.4), 6, torch.Generator().manual_seed(1))
    shift = (noisy.sub_boxes - pairs.sub_boxes)[0].abs().amax(0)
    limit = torch.tensor([0.2 * 0.2, 0.1 * 0.2, 0.2 * 0.4, 0.1 * 0.4])
    assert (shift <= limit + 1e-6).all()
    assert (shift > 0.95 * limit).all()
    assert not torch.equal(noisy.sub_boxes, noisy.obj_boxes)
    assert torch.equal(noisy.sub_labels, pairs.sub_labels)


@pytest.mark.parametrize(("label_range", "highest"), [("labels", 5), ("batch", 0)])
def test_label_noise(label_range: str, highest: int) -> None:
    labels = torch.full((500,), 3)
    pairs = collate_pairs([(torch.rand(500, 4), torch.rand(500, 4), labels, labels)], 500)
    noise = PairNoise(label=0.5, box=0.0, label_range=label_range)  # type: ignore[arg-type]
    noisy = perturb_pairs(pairs, noise, 6, torch.Generator().manual_seed(1))
    changed = (noisy.sub_labels != 3).float().mean().item()
    assert changed == pytest.approx(0.5 * (1 - (highest == 5) / 6), abs=0.06)
    assert int(noisy.sub_labels[noisy.sub_labels != 3].max()) == highest
    assert torch.equal(noisy.sub_boxes, pairs.sub_boxes)


def test_same_seed_same_noise() -> None:
    pairs = make_batch(small("micro_tagger")).pairs(6)
    a, b = (perturb_pairs(pairs, PairNoise(), 6, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(a.obj_boxes, b.obj_boxes)
    assert torch.equal(a.obj_labels, b.obj_labels)


def test_leak_guard_blocks_copies_of_an_entity() -> None:
    a, b = torch.tensor([0.3, 0.3, 0.1, 0.1]), torch.tensor([0.6, 0.6, 0.1, 0.1])
    # a -> b, a -> b, b -> a, and b again with another label: the entity a is in slots 0, 1 (subject) and 2 (object)
    sub, obj = torch.stack([a, a, b, b]), torch.stack([b, b, a, a])
    pairs = collate_pairs([(sub, obj, torch.tensor([1, 1, 2, 4]), torch.tensor([2, 2, 1, 5]))], 5)
    blocked = leak_guard(pairs, "each_image")
    assert blocked is not None
    of_a, of_b = [0, 1, 5 + 2], [2, 5 + 0, 5 + 1]
    want = torch.zeros(10, 10, dtype=torch.bool)
    for group in (of_a, of_b):
        for i in group:
            for j in group:
                want[i, j] = i != j
    assert torch.equal(blocked[0], want)
    assert leak_guard(pairs, "published") is None
    assert leak_guard(pairs, "off") is None
    labels = torch.tensor([1, 1, 2, 4])
    full = collate_pairs([(sub, obj, labels, labels)], 4)
    published, each_image = leak_guard(full, "published"), leak_guard(full, "each_image")
    assert published is not None
    assert each_image is not None
    assert torch.equal(published, each_image)


def test_blocked_slots_do_not_read_each_other() -> None:
    model = tagger()
    batch = make_batch(model.config, counts=(2,))
    pairs = batch.pairs(6)
    blocked = torch.zeros(1, 12, 12, dtype=torch.bool)
    blocked[0, 0] = True
    blocked[0, 0, 0] = False
    features = []
    model.entity_decoder.layers[0].register_forward_hook(lambda module, inputs, output: features.append(output[0, 0]))
    with torch.no_grad():
        for other in (0.2, 0.4):
            changed = replace(pairs, obj_boxes=torch.full_like(pairs.obj_boxes, other), blocked=blocked)
            model(batch.images, batch.mask, batch.pooled, batch.num_objects, pairs=changed)
        model(batch.images, batch.mask, batch.pooled, batch.num_objects, pairs=replace(changed, blocked=None))
    torch.testing.assert_close(features[0], features[1], atol=1e-6, rtol=1e-6)
    assert (features[1] - features[2]).abs().max() > 1e-4


def test_one_encoding_serves_many_sets_of_pairs() -> None:
    model = tagger()
    batch = make_batch(model.config)
    first, rows = batch.pairs(6), torch.tensor([1, 0, 1])
    several = _select(first, rows)
    with torch.no_grad():
        encoded = model.encode(batch.images, batch.mask, batch.pooled)
        once = model.decode(encoded.select(rows), batch.num_objects, several)
        again = model(batch.images[rows], batch.mask[rows], batch.pooled, batch.num_objects, pairs=several)
    torch.testing.assert_close(once.relation_logits, again.relation_logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(once.sub_boxes, again.sub_boxes, atol=1e-6, rtol=1e-6)


def test_refuses() -> None:
    model = tagger()
    batch = make_batch(model.config)
    arguments = (batch.images, batch.mask, batch.pooled, batch.num_objects)
    with pytest.raises(ValueError, match="is a tagger: give the pairs"):
        model(*arguments)
    with pytest.raises(ValueError, match="6 pair slots, got 7"):
        model(*arguments, pairs=batch.pairs(7))
    with pytest.raises(ValueError, match="has 3 pairs, but the tagger has 2 slots"):
        batch.pairs(2)
    with pytest.raises(ValueError, match="takes no `pairs`"):
        build_model(small("micro_parseda"))(*arguments, pairs=batch.pairs(6))


def test_any_number_of_pairs_is_scored_in_chunks() -> None:
    """Eight pairs on six slots, and an image without pairs: the scores of passes of their own."""
    model = tagger()
    batch = make_batch(model.config, counts=(8, 0))
    given = [(t.sub_boxes, t.obj_boxes, t.sub_labels, t.obj_labels) for t in batch.targets]
    scores = score_pairs(model, batch.images, batch.mask, batch.pooled, batch.num_objects, given, rows=1)
    assert [tuple(table.shape) for table in scores] == [(8, 5), (0, 5)]
    for part in (slice(0, 6), slice(6, 8)):
        chunk = collate_pairs([tuple(x[part] for x in given[0]), given[1]], model.config.pairs)  # type: ignore[list-item]
        with torch.no_grad():
            output = model(batch.images, batch.mask, batch.pooled, batch.num_objects, pairs=chunk)
        want = output.relation_logits[-1][0].sigmoid()
        torch.testing.assert_close(scores[0][part], want[: len(scores[0][part])], atol=1e-5, rtol=1e-5)
