"""The sparsified language layers."""

from __future__ import annotations

import torch

from rlip_model.language_layers import LanguageLayer
from tests.support.network_cases import small


def test_masked_labels_are_no_keys() -> None:
    layer = LanguageLayer(small("micro_parseda").text).eval()
    labels = torch.randn(2, 5, 32)
    mask = torch.tensor([False, True, False, False, True])
    changed = labels.clone()
    changed[:, mask] = torch.randn(2, 2, 32)
    with torch.no_grad():
        a, b = layer(labels, mask), layer(changed, mask)
        everything = layer(labels, torch.ones(5, dtype=torch.bool))
    torch.testing.assert_close(a[:, ~mask], b[:, ~mask], atol=1e-6, rtol=1e-6)
    assert torch.isfinite(everything).all()
    assert (layer(labels, None) - a).abs().max() > 1e-3


def test_labels_are_a_set() -> None:
    layer = LanguageLayer(small("micro_parseda").text).eval()
    labels, order = torch.randn(1, 6, 32), torch.randperm(6)
    with torch.no_grad():
        torch.testing.assert_close(layer(labels, None)[:, order], layer(labels[:, order], None), atol=1e-6, rtol=1e-6)
