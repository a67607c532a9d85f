"""The text encoder without padding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlip_model.kernels.packed_text import pooled_labels
from rlip_model.text import build_text_encoder, train_label_tokenizer
from tests.support.network_cases import small

TEXTS = ["person", "sports ball", "dining table", "no objects", "sit on/at", "look at"]


@settings(max_examples=20)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_pooled_labels_are_those_of_the_padded_encoder(lengths: list[int]) -> None:
    """Values and gradients, whatever the lengths, in float64."""
    config = small("micro_parseda").text
    encoder: Any = build_text_encoder(config).double()
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, config.vocabulary, mask.shape).masked_fill(mask == 0, config.pad_id)
    ours, theirs = pooled_labels(encoder, ids, mask), encoder(input_ids=ids, attention_mask=mask).pooler_output
    torch.testing.assert_close(ours, theirs)
    probe, weights = torch.randn_like(theirs), list(encoder.parameters())
    gradients = [torch.autograd.grad(pooled, weights, probe) for pooled in (ours, theirs)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_pooled_labels_drop_out_in_training_alone() -> None:
    config = replace(small("micro_parseda").text, dropout=0.5)
    encoder, tokens = build_text_encoder(config), train_label_tokenizer(TEXTS, config.vocabulary)(TEXTS)
    assert (pooled_labels(encoder, *tokens) - pooled_labels(encoder, *tokens)).abs().max() > 0.01
    encoder.eval()
    assert torch.equal(pooled_labels(encoder, *tokens), pooled_labels(encoder, *tokens))
