"""A BLIP captioner from a folder or the hub: images in, captions out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, BlipForConditionalGeneration, BlipImageProcessorPil, PreTrainedTokenizerBase

from rlip_assets.labelling.captions.decoding import Nucleus, beam_captions, sample_captions
from rlip_assets.labelling.captions.random_streams import uniform_table
from rlip_assets.labelling.image_text_model import refusing
from rlip_assets.lineage.params.labels import CaptionParams
from rlip_assets.storage.errors import InputError

_UNSPOKEN = 8
"""Tokens that a text decoder may have and its tokenizer not: the published one lacks those that start decoding and encoding."""


class Captioner:
    """A captioning model with its image processor and tokenizer."""

    def __init__(
        self,
        model: BlipForConditionalGeneration,
        processor: BlipImageProcessorPil,
        tokenizer: PreTrainedTokenizerBase,
        params: CaptionParams,
    ) -> None:
        self.model = model.eval()
        self.processor, self.tokenizer, self.params = processor, tokenizer, params
        text: Any = model.config.text_config
        words = tokenizer(params.prompt.strip(), add_special_tokens=False)["input_ids"] if params.prompt.strip() else []
        self.prompt = [text.bos_token_id, *words]
        if params.max_tokens <= len(self.prompt) or params.max_tokens > text.max_position_embeddings:
            raise InputError(
                f"max_tokens {params.max_tokens} must be more than the prompt's {len(self.prompt)} and at most the captioner's "
                f"{text.max_position_embeddings} tokens; change captions.max_tokens"
            )

    @classmethod
    def open(cls, source: str | Path, params: CaptionParams, device: str | torch.device = "cpu") -> Captioner:
        """Open a folder that `save_pretrained` wrote, or a hub name such as "Salesforce/blip-image-captioning-large".

        Raises:
            InputError: no BLIP captioner there.
        """
        with refusing(source, "BLIP captioner"):
            loaded: Any = BlipForConditionalGeneration.from_pretrained(
                source, dtype=torch.float32, output_loading_info=True
            )
            model, info = loaded
            processor = BlipImageProcessorPil.from_pretrained(source)
            tokenizer = AutoTokenizer.from_pretrained(source)
            if lacking := [name for name in info["missing_keys"] if name.endswith(".weight")]:
                raise ValueError(f"it has no {min(lacking)}")
            texts: int = model.config.text_config.vocab_size
            if not 0 <= texts - len(tokenizer) <= _UNSPOKEN:
                raise ValueError(f"{len(tokenizer)} tokens, but {texts} in its text decoder")
            side: int = model.config.vision_config.image_size
            read: Any = processor.size
            if (read.height, read.width) != (side, side):
                raise ValueError(f"{read.width} x {read.height} pixels prepared, but {side} x {side} encoded")
        return cls(model.to(device), processor, tokenizer, params)

    def __call__(self, image_ids: Sequence[str], images: Sequence[Image.Image]) -> list[list[str]]:
        """Return the captions of a batch of RGB images, one list per image, the prompt removed."""
        params = self.params
        pixels = self.pixels(images)
        if params.mode == "beam":
            tokens = beam_captions(self.model, pixels, self.prompt, params.beams, params.min_tokens, params.max_tokens)
        else:
            steps = params.max_tokens - len(self.prompt)
            tables = [uniform_table(params.seed, image_id, params.captions_per_image, steps) for image_id in image_ids]
            settings = Nucleus(
                params.top_p, params.top_k, params.min_tokens, params.max_tokens, params.repetition_penalty
            )
            tokens = sample_captions(self.model, pixels, self.prompt, torch.from_numpy(np.stack(tables)), settings)
        return [self._texts(rows) for rows in tokens]

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """(B, 3, H, W) as the model reads them: square, bicubic, CLIP mean and deviation."""
        found: Tensor = self.processor(list(images), return_tensors="pt")["pixel_values"]
        return found.to(self.model.device)

    def _texts(self, rows: Tensor) -> list[str]:
        """Captions of token rows, cut behind the prompt's tokens."""
        new = rows[:, len(self.prompt) :].tolist()
        return [" ".join(text.split()) for text in self.tokenizer.batch_decode(new, skip_special_tokens=True)]
