"""A training step does what it should: the loss falls, the right parameters move."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rlip_model.config import ModelConfig, TextConfig
from rlip_model.losses import LossConfig, RelationCriterion
from rlip_model.model import Rlip, build_model
from rlip_model.text import sign_text_mask
from tests.support.network_cases import make_batch, small

PRETRAINING = LossConfig(pseudo_relations=True)
TAGGING = LossConfig(relational_quality=False, assignment="slots")


def train(
    config: ModelConfig, loss: LossConfig, steps: int, rate: float, size: tuple[int, int]
) -> tuple[Rlip, list[float]]:
    """`steps` optimiser steps on one batch, text encoder included."""
    model = build_model(config).train()
    batch = make_batch(config, counts=(3, 2), size=size)
    ids = torch.randint(5, config.text.vocabulary, (len(batch.pooled), 5))
    ids[:, 0], ids[:, -1] = 0, 2
    pairs = batch.pairs(config.pairs) if config.tagger else None
    criterion = RelationCriterion(loss)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], rate)
    values = []
    for _ in range(steps):
        pooled = model.pool_text(ids, torch.ones_like(ids))
        mask, vectors = sign_text_mask(pooled), model.label_vectors(pooled)
        output = model(batch.images, batch.mask, vectors, batch.num_objects, text_mask=mask, pairs=pairs)
        losses = criterion(output, batch.targets, vectors, batch.num_objects)
        optimiser.zero_grad()
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        values.append(losses.total.item())
    return model, values


@pytest.mark.parametrize(
    ("name", "loss", "steps"),
    [
        ("micro_parseda", PRETRAINING, 60),
        ("micro_tagger", TAGGING, 20),
        pytest.param("micro_parseda_late", PRETRAINING, 60, marks=pytest.mark.deep),
        pytest.param("micro_parse", PRETRAINING, 60, marks=pytest.mark.deep),
    ],
)
def test_loss_falls_on_one_batch(name: str, loss: LossConfig, steps: int) -> None:
    """The tagger knows its boxes and learns faster than the detectors, which have to find theirs."""
    _, values = train(small(name), loss, steps=steps, rate=1e-3, size=(64, 96))
    assert values[-1] < 0.75 * values[0]


@pytest.mark.parametrize(
    ("name", "without"), [("micro_parseda", {"backbone", "relation_decoder"}), ("micro_parse", {"backbone"})]
)
def test_only_what_never_gets_a_gradient_has_none(name: str, without: set[str]) -> None:
    model, _ = train(small(name), PRETRAINING, steps=1, rate=1e-3, size=(64, 96))
    silent = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert silent == set()
    fixed = {name.split(".")[0] for name, p in model.named_parameters() if not p.requires_grad}
    assert fixed == without


def test_dropout_acts_in_training_only() -> None:
    config = replace(small("micro_parseda"), fusion_dropout=0.5)
    model = build_model(config)
    batch = make_batch(config)
    arguments = (batch.images, batch.mask, batch.pooled, batch.num_objects)
    with torch.no_grad():
        model.eval()
        assert torch.equal(model(*arguments).relation_logits, model(*arguments).relation_logits)
        model.train()
        assert not torch.equal(model(*arguments).relation_logits, model(*arguments).relation_logits)


@pytest.mark.deep
@pytest.mark.parametrize("name", ["parseda_r50", "tagger_r50"])
def test_full_size_loss_falls_on_one_batch(name: str) -> None:
    """ResNet-50, 200 queries, width 256, fp32 on the CPU; a two-layer text encoder keeps it within memory."""
    config = replace(ModelConfig.preset(name), text=TextConfig(layers=2, vocabulary=500)).without_dropout()
    loss = TAGGING if config.tagger else PRETRAINING
    _, values = train(config, loss, steps=20, rate=5e-5, size=(128, 160))
    assert values[-1] < 0.75 * values[0]
