"""Text vectors of a checkpoint, each computed once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from rlip_model import Checkpoint

TEXTS_AT_ONCE = 256


class TextVectors:
    """A cache of text vectors, valid as long as the weights of the network are."""

    def __init__(self, checkpoint: Checkpoint, most: int | None = None) -> None:
        """
        Args:
            most: number of texts to keep between calls, the latest used; None keeps all.
        """
        self._checkpoint, self._most = checkpoint, most
        self._vectors: OrderedDict[str, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._vectors)

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
        found = torch.stack([self._vectors[text] for text in texts])
        if self._most is not None:
            for text in texts:
                self._vectors.move_to_end(text)
            while len(self._vectors) > self._most:
                self._vectors.popitem(last=False)
        return found
