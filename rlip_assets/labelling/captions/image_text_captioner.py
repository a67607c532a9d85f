"""Captions of any image-text-to-text model of transformers: what BLIP does in `captioner.py`, by instruction."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from rlip_assets.labelling.image_text_model import ImageTextModel
from rlip_assets.lineage.params.labels import CaptionParams


class ImageTextCaptioner:
    """An instructed captioner. Random numbers depend on seed and image alone, so no caption depends on batches or shards."""

    def __init__(self, model: ImageTextModel, params: CaptionParams) -> None:
        self.model, self.params = model, params

    @classmethod
    def open(cls, source: str | Path, params: CaptionParams, device: str | torch.device = "cpu") -> ImageTextCaptioner:
        """Open a folder or hub name.

        Raises:
            InputError: no image-text-to-text model there.
        """
        return cls(ImageTextModel.open(source, device), params)

    def __call__(self, image_ids: Sequence[str], images: Sequence[Image.Image]) -> list[list[str]]:
        """Return the captions of RGB images: N samples per image, or the one of a beam search."""
        return [self._captions(image_id, image) for image_id, image in zip(image_ids, images, strict=True)]

    def _captions(self, image_id: str, image: Image.Image) -> list[str]:
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(_seed(self.params.seed, image_id))
            return self.model.write(image, self.params.prompt.strip(), **self._decoding())

    def _decoding(self) -> dict[str, Any]:
        params = self.params
        lengths = {"min_new_tokens": params.min_tokens, "max_new_tokens": params.max_tokens}
        if params.mode == "beam":
            return {**lengths, "do_sample": False, "num_beams": params.beams}
        return {
            **lengths,
            "do_sample": True,
            "top_p": params.top_p,
            "top_k": params.top_k or 0,
            "repetition_penalty": params.repetition_penalty,
            "num_return_sequences": params.captions_per_image,
        }


def _seed(seed: int, image_id: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{image_id}".encode()).digest()[:7])
