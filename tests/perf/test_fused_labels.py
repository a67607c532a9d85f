"""Measurement of what fusions carry, on a toy."""

from __future__ import annotations

import torch

from perf.fused_labels import measure
from rlip_model.model import Encoded, build_model
from tests.support.network_cases import make_batch, shake, small


def test_what_is_taken_away_is_gone_and_comes_back() -> None:
    config = small("micro_parseda")
    model = build_model(config).eval()
    shake(model)
    batch = make_batch(config)
    seen: list[Encoded] = []

    def evaluate() -> float:
        seen.append(model.encode(batch.images, batch.mask, batch.pooled))
        return 0.5

    figures = measure(model, evaluate)
    usual, other, none, unread = seen
    torch.testing.assert_close(other.labels, usual.labels.flip(1))
    torch.testing.assert_close(none.labels[:, 0], none.labels[:, 1])
    assert not torch.equal(usual.labels[:, 0], usual.labels[:, 1])
    assert not torch.allclose(unread.memory.tokens, usual.memory.tokens)
    assert 0 < figures["share of the image in labels"] < 1
    evaluate()
    torch.testing.assert_close(seen[-1].labels, usual.labels)
    torch.testing.assert_close(seen[-1].memory.tokens, usual.memory.tokens)
    plain = build_model(small("micro_parseda", fusion="none"))
    assert measure(plain, lambda: 0.5) == {"as trained": 0.5}
