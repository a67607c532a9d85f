"""The box detector, and the relation network's start from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from rlip_model.checkpoints.detector import load_detector, save_detector
from rlip_model.checkpoints.official_layout import official_state_dict
from rlip_model.checkpoints.transfer import (
    initialise_from_detector,
    initialise_from_detector_state,
    initialise_text_encoder,
)
from rlip_model.config import ModelConfig
from rlip_model.dab_deformable_detr import DabDeformableDetr, DetectorCriterion, DetectorOutput, detections
from rlip_model.model import build_model
from tests.support.network_cases import make_batch, shake, small

MICRO = small("micro_detector", queries=10)


def make_detector(config: ModelConfig = MICRO) -> DabDeformableDetr:
    model = DabDeformableDetr(config, 4)
    shake(model)
    return model.eval()


def test_save_and_open(tmp_path: Path) -> None:
    model, batch = make_detector(), make_batch(MICRO)
    save_detector(tmp_path / "a", model, {"images": 5})
    save_detector(tmp_path / "half", model, {}, half=True)
    again, metadata = load_detector(tmp_path / "a")
    assert metadata == {"images": 5}
    with torch.no_grad():
        mine, other = (m(batch.images, batch.mask) for m in (model, again))
        narrow = load_detector(tmp_path / "half")[0](batch.images, batch.mask)
    assert torch.equal(mine.logits, other.logits)
    assert torch.equal(mine.boxes, other.boxes)
    torch.testing.assert_close(narrow.boxes, mine.boxes, atol=0.05, rtol=0.05)
    assert (tmp_path / "half" / "model.safetensors").stat().st_size < 0.6 * (
        tmp_path / "a" / "model.safetensors"
    ).stat().st_size
    assert mine.logits.shape == (6, 2, 10, 4)


def test_loss_falls() -> None:
    """Live batch normalisation, 20 steps on one batch."""
    model = DabDeformableDetr(MICRO, 4).train()
    batch, criterion = make_batch(MICRO, size=(64, 96)), DetectorCriterion()
    targets = [
        (torch.tensor([0, 3]), torch.tensor([[0.3, 0.3, 0.2, 0.2], [0.6, 0.5, 0.1, 0.3]])),
        (torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4)),
    ]
    optimiser = torch.optim.AdamW(model.parameters(), 5e-4)
    values = []
    for _ in range(20):
        total, terms = criterion(model(batch.images, batch.mask), targets)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        values.append(total.item())
    assert values[-1] < 0.8 * values[0]
    assert set(terms) == {"class", "l1", "giou"}


def test_images_without_boxes() -> None:
    model, batch = make_detector(), make_batch(MICRO)
    nothing = (torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4))
    total, terms = DetectorCriterion()(model(batch.images, batch.mask), [nothing, nothing])
    total.backward()
    assert terms["l1"] == terms["giou"] == 0
    assert terms["class"] > 0


def test_matching_prefers_the_right_box_and_class() -> None:
    boxes = torch.tensor([[0.2, 0.2, 0.1, 0.1], [0.7, 0.7, 0.2, 0.2], [0.7, 0.7, 0.2, 0.2]])
    logits = torch.full((3, 2), -4.0)
    logits[1, 0] = logits[2, 1] = 4.0
    output = DetectorOutput(logits[None, None], boxes[None, None])
    targets = [(torch.tensor([1, 0]), torch.tensor([[0.7, 0.7, 0.2, 0.2], [0.68, 0.7, 0.2, 0.2]]))]
    matches = DetectorCriterion().match(output, targets)
    query, target = matches.pair, matches.target
    assert dict(zip(target[0].tolist(), query[0].tolist(), strict=True)) == {0: 2, 1: 1}


def test_detections_are_sorted_and_in_pixels() -> None:
    logits = torch.tensor([[-3.0, 1.0], [2.0, -3.0]])
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.4], [0.1, 0.1, 0.2, 0.2]])
    found = detections(DetectorOutput(logits[None, None], boxes[None, None]), torch.tensor([[100, 200]]), limit=2)[0]
    assert found.labels.tolist() == [0, 1]
    torch.testing.assert_close(found.boxes, torch.tensor([[0.0, 0, 40, 20], [80, 30, 120, 70]]))
    torch.testing.assert_close(found.scores, torch.tensor([2.0, 1.0]).sigmoid())


def test_relation_network_starts_from_the_detector(tmp_path: Path) -> None:
    detector = make_detector()
    save_detector(tmp_path / "d", detector, {})
    model = build_model(small("micro_parseda"))
    report = initialise_from_detector(model, tmp_path / "d")
    source, own = official_state_dict(detector), official_state_dict(model)
    for key in (
        "transformer.encoder.layers.5.linear1.weight",
        "input_proj.3.0.weight",
        "transformer.level_embed",
        "backbone.0.body.layer4.0.conv2.weight",
        "backbone.0.body.layer2.0.bn1.running_mean",
    ):
        assert torch.equal(own[key], source[key]), key
    for decoder in ("ho_decoder", "verb_decoder"):
        for rest in (
            "layers.2.cross_attn.value_proj.weight",
            "query_scale.layers.1.weight",
            "ref_point_head.layers.0.bias",
        ):
            assert torch.equal(own[f"transformer.{decoder}.{rest}"], source[f"transformer.decoder.{rest}"])
    for role in ("sub", "obj"):
        for index in range(6):
            assert torch.equal(
                own[f"{role}_bbox_embed.{index}.layers.2.weight"], source[f"bbox_embed.{index}.layers.2.weight"]
            )
        # The relation decoder reads the detector's heads 3, 4, 5.
        head = getattr(model.relation_decoder, f"{role}_boxes")[0]
        assert torch.equal(head.layers[2].weight, source["bbox_embed.3.layers.2.weight"])
    # Ten detector queries for twelve here: the last two rows stay fresh.
    for key in ("tgt_embed.weight", "verb_tgt_embed.weight"):
        assert torch.equal(own[key][:10], source["tgt_embed.weight"])
        assert own[key][10:].abs().sum() > 0
    assert torch.equal(own["refpoint_embed.weight"][:10], source["refpoint_embed.weight"])
    fresh = {key.split(".")[1] if key.startswith("transformer.") else key.split(".")[0] for key in report.fresh}
    assert fresh == {
        "text_encoder",
        "resizer",
        "verb_tgt_generator",
        "bias_obj_a",
        "bias_pred_a",
        "projection_text",
        "encoder",
    }
    assert not [key for key in report.fresh if key.startswith("transformer.encoder.layers")]
    unused = {key for key in report.unused if not key.startswith("class_embed")}
    assert all(
        key.startswith(("transformer.decoder.layers.3", "transformer.decoder.layers.4", "transformer.decoder.layers.5"))
        for key in unused
    )


def test_batch_normalisation_freezes_without_a_change(tmp_path: Path) -> None:
    detector, images = make_detector(), make_batch(MICRO).images.double()
    save_detector(tmp_path / "d", detector, {})
    model = build_model(small("micro_parseda")).eval()
    initialise_from_detector(model, tmp_path / "d")
    with torch.no_grad():
        for a, b in zip(model.backbone.double()(images), detector.backbone.double()(images), strict=True):
            torch.testing.assert_close(a, b)


def test_point_network_starts_from_a_deformable_detr() -> None:
    model = build_model(small("micro_parseda", anchors="points"))
    width = model.config.width
    state = {
        "query_embed.weight": torch.randn(20, 2 * width),
        "transformer.reference_points.weight": torch.randn(2, width),
        "transformer.reference_points.bias": torch.randn(2),
        "transformer.encoder.layers.0.linear1.bias": torch.randn(model.config.feed_forward),
        "class_embed.0.bias": torch.zeros(4),
    }
    report = initialise_from_detector_state(model, state)
    own = official_state_dict(model)
    position, content = state["query_embed.weight"][:12].chunk(2, 1)
    assert torch.equal(own["query_embed.weight"], torch.cat([position, content, content], 1))
    assert torch.equal(own["transformer.reference_points_obj.weight"], state["transformer.reference_points.weight"])
    assert torch.equal(
        own["transformer.ho_encoder.layers.0.linear1.bias"], state["transformer.encoder.layers.0.linear1.bias"]
    )
    assert report.unused == ("class_embed.0.bias",)
    # The Swin source has one block only.
    initialise_from_detector_state(model, {"query_embed.weight": position})
    assert torch.equal(official_state_dict(model)["query_embed.weight"], torch.cat([position] * 3, 1))


def detr_state(config: ModelConfig, queries: int) -> dict[str, torch.Tensor]:
    """Tensors by DETR's keys, all of different values; as many decoder layers as both decoders have together."""
    own = official_state_dict(build_model(config))
    parts = {"cross_attn_image": "multihead_attn", "norm3": "norm2", "norm4": "norm3"}
    state = {}
    for key, value in own.items():
        if key.startswith(("backbone.", "input_proj.", "transformer.encoder.")):
            state[key] = torch.randn_like(value)
        elif key.startswith("transformer.ho_decoder."):
            name = ".".join(parts.get(part, part) for part in key.split("."))
            state[name.replace(".ho_decoder.", ".decoder.")] = torch.randn_like(value)
        elif key.startswith("sub_bbox_embed."):
            state[key.removeprefix("sub_")] = torch.randn_like(value)
    late = {
        key.replace(".layers.0.", ".layers.3."): value for key, value in state.items() if "decoder.layers.0." in key
    }
    table = {"query_embed.weight": torch.randn(queries, config.width), "class_embed.bias": torch.zeros(92)}
    return state | late | table


NORMS = (("norm1.bias", "norm1.bias"), ("norm3.bias", "norm2.bias"), ("norm4.bias", "norm3.bias"))


def test_parse_starts_from_detr() -> None:
    config = small("micro_parse")
    model, state = build_model(config), detr_state(config, queries=4)
    fresh = official_state_dict(model)["query_embed.weight"].clone()
    report = initialise_from_detector_state(model, state)
    own = official_state_dict(model)
    for key in ("backbone.0.body.layer1.0.conv1.weight", "input_proj.bias", "transformer.encoder.layers.5.norm2.bias"):
        assert torch.equal(own[key], state[key]), key
    for decoder in ("ho_decoder", "verb_decoder"):
        for ours, theirs in (("cross_attn_image.in_proj_bias", "multihead_attn.in_proj_bias"), *NORMS):
            source = state[f"transformer.decoder.layers.2.{theirs}"]
            assert torch.equal(own[f"transformer.{decoder}.layers.2.{ours}"], source), ours
        assert torch.equal(own[f"transformer.{decoder}.norm.bias"], state["transformer.decoder.norm.bias"])
    for role in ("sub", "obj"):
        assert torch.equal(own[f"{role}_bbox_embed.layers.2.bias"], state["bbox_embed.layers.2.bias"])
    rows = own["query_embed.weight"]
    for half, old in zip(rows.chunk(2), fresh.chunk(2), strict=True):
        assert torch.equal(half, torch.cat([state["query_embed.weight"], old[4:]]))
    assert {".".join(key.split(".")[:2]) for key in report.fresh} == {
        "transformer.text_encoder",
        "transformer.resizer",
        "bias_obj_a",
        "bias_pred_a",
        "projection_text.weight",
        "projection_text.bias",
    }
    assert all(key.startswith(("transformer.decoder.layers.3.", "class_embed")) for key in report.unused)


def test_a_detector_with_the_other_attention_gives_its_backbone_alone() -> None:
    detr, deformable = detr_state(small("micro_parse"), 4), official_state_dict(make_detector())
    for name, state in (("micro_parseda", detr), ("micro_parse", deformable)):
        model = build_model(small(name))
        report = initialise_from_detector_state(model, state)
        assert report.filled
        assert {key.split(".")[0] for key in report.filled} == {"backbone"}
        assert not [key for key in report.fresh if key.startswith("backbone.")]


def test_detector_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give a folder with a detector's weights"):
        initialise_from_detector(build_model(small("micro_parseda")), tmp_path)
    save_file({"transformer.level_embed": torch.zeros(4, 5)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"transformer\.level_embed has shape \(4, 5\)"):
        initialise_from_detector(build_model(small("micro_parseda")), tmp_path)


def test_text_encoder_from_a_folder(tmp_path: Path) -> None:
    model, source = build_model(small("micro_parseda")), build_model(small("micro_parseda"))
    encoder: Any = source.text_encoder
    encoder.half().save_pretrained(tmp_path / "t")
    initialise_text_encoder(model, tmp_path / "t")
    for name, value in source.text_encoder.float().state_dict().items():
        assert torch.equal(model.text_encoder.state_dict()[name], value), name
    other = small("micro_parseda")
    with pytest.raises(ValueError, match=r"does not fit the configuration: .* needs"):
        initialise_text_encoder(build_model(replace(other, text=replace(other.text, width=64))), tmp_path / "t")


def test_missing_text_encoder_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="give a folder with a RoBERTa model"):
        initialise_text_encoder(build_model(small("micro_parseda")), tmp_path / "absent")


def test_needs_box_anchors() -> None:
    with pytest.raises(ValueError, match="`boxes` anchors"):
        DabDeformableDetr(replace(MICRO, anchors="points"), 4)
