"""Properties of the whole network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from rlip_model import with_fewer_queries
from rlip_model.config import ModelConfig
from rlip_model.kernels import blocks
from rlip_model.model import build_model
from rlip_model.postprocess import hoi_predictions, sgg_predictions
from tests.support.network_cases import make_batch, make_targets, shake, small


@pytest.mark.parametrize("name", ["micro_parseda", "micro_parseda_late", "micro_parse"])
def test_each_image_is_alone_in_its_batch(name: str) -> None:
    config = small(name)
    model = build_model(config).eval()
    shake(model)
    batch = make_batch(config)
    with torch.no_grad():
        both = model(batch.images, batch.mask, batch.pooled, batch.num_objects)
        second = model(batch.images[1:], batch.mask[1:], batch.pooled, batch.num_objects)
    for quantity, value in vars(both).items():
        torch.testing.assert_close(value[:, 1:], getattr(second, quantity), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["micro_parseda", "micro_parseda_late", "micro_parse"])
def test_large_images_one_by_one_give_what_their_batch_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(name)
    model = build_model(config).eval()
    shake(model)
    batch = make_batch(config)
    seen: list[int] = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    with torch.no_grad():
        together = model(batch.images, batch.mask, batch.pooled, batch.num_objects)
        monkeypatch.setattr(blocks, "LARGE_IMAGE", 1)
        alone = model(batch.images, batch.mask, batch.pooled, batch.num_objects)
    assert seen == [2, 1, 1]
    for quantity, value in vars(together).items():
        torch.testing.assert_close(getattr(alone, quantity), value, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 7, 250])
def test_blocks_of_a_large_image_give_what_the_whole_gives(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small("micro_parseda")
    model = build_model(config).eval()
    shake(model)
    batch = make_batch(config)
    with torch.no_grad():
        whole = model.encode(batch.images, batch.mask, batch.pooled).memory.tokens
        assert whole.shape[1] > 250
        monkeypatch.setattr(blocks, "TOKENS_AT_ONCE", size)
        in_blocks = model.encode(batch.images, batch.mask, batch.pooled).memory.tokens
    torch.testing.assert_close(in_blocks, whole, atol=1e-5, rtol=1e-5)
    assert model.encode(batch.images, batch.mask, batch.pooled).memory.tokens.requires_grad


@pytest.mark.parametrize(
    "name",
    [
        "micro_parseda",
        pytest.param("micro_parseda_late", marks=pytest.mark.deep),
        pytest.param("micro_tagger", marks=pytest.mark.deep),
        pytest.param("micro_parse", marks=pytest.mark.deep),
    ],
)
def test_compiles_without_a_graph_break(name: str) -> None:
    """`fullgraph` raises at the first break; the traced graph runs as it is, so no compiler is needed."""
    config = small(name, encoder_layers=2, decoder_layers=1)
    model = build_model(config).eval()
    shake(model)
    batch = make_batch(config)
    pairs = batch.pairs(config.pairs) if config.tagger else None
    arguments = (batch.images, batch.mask, batch.pooled, batch.num_objects, None, pairs)
    with torch.no_grad():
        traced = torch.compile(model, fullgraph=True, backend="eager")(*arguments)
        for name, value in vars(model(*arguments)).items():
            torch.testing.assert_close(getattr(traced, name), value, atol=1e-5, rtol=1e-5)


def test_order_of_relation_labels_only_moves_columns() -> None:
    config = small("micro_parseda")
    model = build_model(config).eval()
    shake(model)
    batch = make_batch(config)
    order = torch.randperm(5)
    rows = torch.cat([torch.arange(7), 7 + order])
    with torch.no_grad():
        a = model(batch.images, batch.mask, batch.pooled, 7).relation_logits
        b = model(batch.images, batch.mask, batch.pooled[rows], 7).relation_logits
    torch.testing.assert_close(a[..., order], b, atol=1e-5, rtol=1e-5)


def test_any_number_of_labels_and_any_image_size() -> None:
    config = small("micro_parseda")
    model = build_model(config).eval()
    with torch.no_grad():
        for labels, objects, size in ((3, 2, (64, 64)), (40, 33, (33, 130)), (5, 3, (1, 1))):
            image, mask = torch.randn(1, 3, *size), torch.zeros(1, *size, dtype=torch.bool)
            output = model(image, mask, torch.randn(labels, 32), objects)
            assert output.obj_logits.shape == (3, 1, 6, objects)
            assert output.relation_logits.shape == (3, 1, 6, labels - objects)
            assert all(torch.isfinite(value).all() for value in vars(output).values())


@pytest.mark.parametrize(("labels", "objects"), [(5, 5), (5, 1), (0, 0)])
def test_refuses_label_lists_without_objects_or_relations(labels: int, objects: int) -> None:
    model = build_model(small("micro_parseda"))
    with pytest.raises(ValueError, match="give at least one object"):
        model(torch.zeros(1, 3, 64, 64), torch.zeros(1, 64, 64, dtype=torch.bool), torch.randn(labels, 32), objects)


def test_fresh_boxes_start_from_the_anchors() -> None:
    """Zero-initialised heads: the first layer's boxes are the anchors with smaller sizes, later layers change nothing."""
    model = build_model(small("micro_parseda")).eval()
    batch = make_batch(model.config)
    with torch.no_grad():
        output = model(batch.images, batch.mask, batch.pooled, batch.num_objects)
    anchors = model.get_parameter("queries.anchors").detach()
    torch.testing.assert_close(output.sub_boxes[0, 0, :, :2], anchors[:6, :2].sigmoid(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(output.obj_boxes[0, 1, :, 2:], (anchors[6:, 2:] - 2).sigmoid(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(output.sub_boxes[2], output.sub_boxes[0], atol=1e-4, rtol=1e-4)


def test_parse_reads_the_labels_in_encoder_and_decoders() -> None:
    """Boxes depend on the label list, so that an encoded image serves one list alone; a masked label is read by nobody."""
    config = small("micro_parse")
    model = build_model(config).eval()
    shake(model)
    batch = make_batch(config)
    masked = torch.arange(12) == 11
    other = torch.cat([batch.pooled[:11], torch.randn(1, config.width)])
    with torch.no_grad():
        one, two = (model(batch.images, batch.mask, pooled, 7) for pooled in (batch.pooled, other))
        three, four = (model(batch.images, batch.mask, pooled, 7, masked) for pooled in (batch.pooled, other))
    assert (one.sub_boxes - two.sub_boxes).abs().max() > 1e-4
    assert torch.equal(three.sub_boxes, four.sub_boxes)
    assert (three.relation_logits - four.relation_logits)[..., -1].abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "changes", "resized"),
    [
        ("micro_parse", {}, True),
        ("micro_parseda_late", {"anchors": "points", "relation_query": "learned"}, True),
        ("micro_parseda_late", {}, False),
        ("micro_parseda", {}, False),
    ],
)
def test_rlipv1_resizes_label_vectors_before_all_else(name: str, changes: dict[str, object], resized: bool) -> None:
    model = build_model(small(name, **changes)).eval()
    ids = torch.randint(5, 300, (4, 5))
    with torch.no_grad():
        pooled, vectors = (encode(ids, torch.ones_like(ids)) for encode in (model.pool_text, model.encode_text))
        assert torch.equal(vectors, model.resizer(pooled) if resized else pooled)
    assert vectors.shape[1] == (64 if resized else 32)


def test_scores_of_both_forms() -> None:
    model = build_model(small("micro_parseda")).eval()
    shake(model)
    batch = make_batch(model.config)
    with torch.no_grad():
        output = model(batch.images, batch.mask, batch.pooled, batch.num_objects)
    sizes = torch.tensor([[480, 640], [100, 50]])
    hoi, sgg = hoi_predictions(output, sizes), sgg_predictions(output, sizes)
    subject = output.sub_logits[-1].softmax(-1)[..., :-1].amax(-1)
    for image in range(2):
        torch.testing.assert_close(sgg[image].scores, hoi[image].scores * subject[image][:, None])
        assert not hoi[image].sub_labels.any()
        assert torch.equal(hoi[image].obj_labels, sgg[image].obj_labels)
        assert int(sgg[image].sub_labels.max()) < 6
    persons = hoi_predictions(output, sizes, persons_only=True)
    for image in range(2):
        assert len(persons[image]) == int((sgg[image].sub_labels == 0).sum())


def test_targets_move_together() -> None:
    target = make_targets(3, 7, 5)
    assert len(target) == 3
    assert torch.equal(target.to("cpu").relations, target.relations)


def test_more_pyramid_levels() -> None:
    """Levels beyond the fourth read the one before; three levels read the backbone alone."""
    for levels in (3, 5):
        config = replace(small("micro_parseda"), levels=levels)
        model = build_model(config).eval()
        batch = make_batch(config)
        with torch.no_grad():
            output = model(batch.images, batch.mask, batch.pooled, batch.num_objects)
        assert torch.isfinite(output.relation_logits).all()


@pytest.mark.parametrize("anchors", ["boxes", "points", "none"])
def test_fewer_queries_keep_their_pairs(anchors: str) -> None:
    """Without self-attention between pairs the kept pairs would predict the same: their start is compared."""
    model = build_model(small("micro_parse") if anchors == "none" else small("micro_parseda", anchors=anchors))
    shake(model)
    kept = with_fewer_queries(model, 8)
    whole, part = model.queries(1), kept.queries(1)
    for name in ("sub_reference", "obj_reference"):
        # A vectorised sigmoid rounds the end of a row otherwise than its middle.
        torch.testing.assert_close(getattr(part, name), getattr(whole, name)[:, :4], atol=1e-6, rtol=0)
    assert torch.equal(part.relation_content, whole.relation_content[:4])
    assert torch.equal(part.content[:, 4:], whole.content[:, 6:10])
    if anchors == "none":
        assert torch.equal(part.position[0], torch.cat([whole.position[0, :4], whole.position[0, 6:10]]))
    if anchors == "points":
        assert torch.equal(part.relation_position, whole.relation_position[:4])
    assert torch.equal(kept.heads.projection.weight, model.heads.projection.weight)


def test_fewer_queries_as_published_mix_the_roles() -> None:
    model = build_model(small("micro_parseda"))
    kept = with_fewer_queries(model, 8, keep="rows")
    assert torch.equal(kept.get_parameter("queries.content"), model.get_parameter("queries.content")[:8])
    # Objects of the kept pairs: old subjects 4, 5, then old objects 0, 1.
    torch.testing.assert_close(
        kept.queries(1).obj_reference[0], model.get_parameter("queries.anchors")[4:8].sigmoid(), atol=1e-6, rtol=0
    )
    with pytest.raises(ValueError, match="has 12 queries, fewer than the 14"):
        with_fewer_queries(model, 14)


@pytest.mark.parametrize("name", ["micro_parseda", "micro_tagger", "micro_parse"])
def test_bf16_autocast(name: str) -> None:
    config = small(name)
    model = build_model(config)
    shake(model)
    batch = make_batch(config)
    pairs = batch.pairs(6) if config.tagger else None
    arguments = (batch.images, batch.mask, batch.pooled, batch.num_objects, torch.arange(12) % 3 == 1, pairs)
    exact = model(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(*arguments)
    assert rounded.sub_boxes.dtype == torch.float32
    torch.testing.assert_close(rounded.sub_boxes, exact.sub_boxes, atol=0.05, rtol=0)
    torch.testing.assert_close(rounded.relation_logits.float(), exact.relation_logits, atol=0.5, rtol=0)
    rounded.relation_logits.float().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_configuration_stays_with_the_network() -> None:
    config = ModelConfig.preset("micro_parseda")
    assert build_model(config).config is config


@pytest.mark.parametrize(
    ("changes", "fusions", "same"),
    [
        ({"fusion": "none"}, 0, []),
        ({"fusion_interval": 6}, 1, [(0, 1), (1, 2)]),
        ({"fusion_interval": 3}, 2, [(0, 1)]),
        ({"fusion_interval": 2}, 3, []),
        ({"fusion_interval": 1}, 6, []),
    ],
)
def test_any_number_of_fusions_serves_the_decoder_layers(
    changes: dict[str, object], fusions: int, same: list[tuple[int, int]]
) -> None:
    """Layers that share a fusion read the same labels; without fusion there is one set, which no image touches."""
    config = small("micro_parseda", **changes)
    model = build_model(config).eval()
    shake(model)
    fused: Any = model.encoder.fusions
    assert len(fused) == fusions
    batch = make_batch(config)
    with torch.no_grad():
        labels = model.encode(batch.images, batch.mask, batch.pooled).labels
        output = model(batch.images, batch.mask, batch.pooled, batch.num_objects)
    assert len(output.relation_logits) == 3
    assert labels.shape[:2] == ((3, 2) if fusions else (1, 1))
    for one in range(len(labels)):
        for two in range(one + 1, len(labels)):
            assert torch.equal(labels[one], labels[two]) == ((one, two) in same or same == [(0, 1), (1, 2)])


@pytest.mark.parametrize("gate", ["vxac", "glip", "none"])
def test_identity_start_leaves_labels_as_they_are_and_learns(gate: str) -> None:
    config = small("micro_parseda", gate=gate)
    model = build_model(config).train()
    batch = make_batch(config)
    model.encoder.start_as_identity()  # type: ignore[operator]
    encoded = model.encode(batch.images, batch.mask, batch.pooled)
    plain = model.resizer(torch.nn.functional.layer_norm(batch.pooled, batch.pooled.shape[-1:]))
    torch.testing.assert_close(encoded.labels, plain.expand_as(encoded.labels), atol=1e-4, rtol=1e-4)
    (encoded.labels.square() @ torch.randn(config.width)).sum().backward()
    opened = model.get_parameter("encoder.fusions.1." + ("output_label.weight" if gate == "none" else "gate_label"))
    assert opened.grad is not None
    assert opened.grad.any()
