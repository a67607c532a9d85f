"""Text vectors of a checkpoint, each computed once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlip_model import Checkpoint

TEXTS_AT_ONCE = 256


class TextVectors:
    """A cache of text vectors, valid as long as the weights of the network are.

    The last bits of a vector depend on the texts that were encoded in the same pass: with a cache that outlives a piece of work, its result
    depends on what was done before.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._vectors: dict[str, Tensor] = {}

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return the vectors (T, W) of `texts`, in order."""
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        model = self._checkpoint.model
        device = next(model.parameters()).device
        for start in range(0, len(new), TEXTS_AT_ONCE):
            part = new[start : start + TEXTS_AT_ONCE]
            tokens = self._checkpoint.tokenizer(part)
            vectors = model.encode_text(tokens.input_ids.to(device), tokens.attention_mask.to(device))
            self._vectors.update(zip(part, [vector.clone() for vector in vectors], strict=True))
        return torch.stack([self._vectors[text] for text in texts])
