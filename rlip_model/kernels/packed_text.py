"""The text encoder without padding: labels are short and a few of them long, so that most of a padded batch is padding.

Shape legend: T texts, N tokens of the longest, n tokens of all texts, W text width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


def pooled_labels(encoder: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the pooler output (T, W) of a `RobertaModel`, computed for the tokens that it depends on.

    Tokens stand in one row without padding, and are padded only where they attend. The last layer is that of the first tokens alone,
    since nothing reads the others.

    Args:
        encoder: as `build_text_encoder` makes it.
        input_ids, attention_mask: as in `TokenBatch`.
    """
    roberta: Any = encoder
    present = attention_mask.bool()
    packing = Packing(present, present.flatten().nonzero()[:, 0])
    tokens = packing.pack(roberta.embeddings(input_ids=input_ids))
    *layers, last = roberta.encoder.layer
    for layer in layers:
        read = packing.pack(
            packing.attend(layer.attention.self, packing.pad(layer.attention.self.query(tokens)), tokens)
        )
        tokens = _after_attention(layer, read, tokens)
    first = packing.pad(tokens)[:, :1]
    read = packing.attend(last.attention.self, last.attention.self.query(first), tokens)
    pooled: Tensor = roberta.pooler(_after_attention(last, read, first))
    return pooled


def _after_attention(layer: Any, read: Tensor, tokens: Tensor) -> Tensor:
    """The rest of a RoBERTa layer, the same for every token."""
    tokens = layer.attention.output(read, tokens)
    result: Tensor = layer.output(layer.intermediate(tokens), tokens)
    return result


class Packing(NamedTuple):
    """The places of the n tokens of T texts in the padded batch: present (T, N) bool, and places (n,) in it as one row."""

    present: Tensor
    places: Tensor

    def pad(self, tokens: Tensor) -> Tensor:
        """Return tokens (n, W) as (T, N, W), zero where there is none."""
        padded = tokens.new_zeros(self.present.numel(), tokens.shape[1])
        return padded.index_copy(0, self.places, tokens).view(*self.present.shape, -1)

    def pack(self, padded: Tensor) -> Tensor:
        """Return the n tokens (n, W) of a padded batch (T, N, W)."""
        return padded.flatten(0, 1).index_select(0, self.places)

    def attend(self, attention: Any, queries: Tensor, tokens: Tensor) -> Tensor:
        """Return what projected queries (T, Q, W) read from the tokens (n, W) of their own text: (T, Q, W)."""
        query, key, value = (
            x.view(*x.shape[:2], attention.num_attention_heads, -1).transpose(1, 2)
            for x in (queries, self.pad(attention.key(tokens)), self.pad(attention.value(tokens)))
        )
        dropout = attention.dropout.p if attention.training else 0.0
        read = F.scaled_dot_product_attention(query, key, value, self.present[:, None, None], dropout)
        return read.transpose(1, 2).flatten(2)
