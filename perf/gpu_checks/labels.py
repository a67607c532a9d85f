"""The factory of labels: captions per image with a BLIP of base size, and scores of an R-Tagger; what both mean for Objects365."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from perf.gpu_checks.cases import Sizes, build, make_batch, preset, shake
from perf.gpu_checks.device import Device
from perf.gpu_checks.record import Row, Value
from rlip_assets.labelling.captions.decoding import Nucleus, sample_captions
from rlip_assets.training.micro_batches import ran_out_of_memory
from rlip_model import Rlip
from rlip_model.tagger import PairParts, score_pairs

OBJECTS365_IMAGES = 1_822_288
"""Images that the published work captioned and tagged: four segments of 455,572."""
MOST_TOKENS = 20
GAIN = 1.05
"""A larger batch must be this much faster to be worth another try."""


@dataclass(frozen=True)
class Captions:
    """A BLIP with random weights: its captions never end early, so that every one has the most tokens, an upper bound of the work."""

    model: Any
    pixels: Tensor
    captions: int

    @classmethod
    def make(cls, sizes: Sizes, device: Device, batch: int) -> Captions:
        """Return a captioner of the given size."""
        from transformers import BlipConfig, BlipForConditionalGeneration

        width, layers, words = sizes.blip_width, sizes.blip_layers, sizes.blip_vocabulary
        shape = {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": max(1, width // 64),
        }
        vision = shape | {"image_size": sizes.blip_image, "patch_size": 16}
        special = {"bos_token_id": words - 2, "sep_token_id": 2, "eos_token_id": 2, "pad_token_id": 0}
        text = shape | special | {"vocab_size": words, "encoder_hidden_size": width, "projection_dim": width}
        config = BlipConfig(vision_config=vision, text_config=text, projection_dim=width, image_text_hidden_size=width)
        torch.manual_seed(0)
        with device.torch:
            model: Any = BlipForConditionalGeneration(config)
        pixels = torch.randn(batch, 3, sizes.blip_image, sizes.blip_image, device=device.torch)
        return cls(model.to(device.torch).eval(), pixels, sizes.captions)

    @property
    def prompt(self) -> list[int]:
        """The start token and three words."""
        return [self.model.config.text_config.bos_token_id, 10, 11, 12]

    def __call__(self, images: Sequence[int]) -> list[Tensor]:
        """Return the tokens of all captions of some of the images, as a captioning stage samples them."""
        chances = torch.stack([self._chances(image) for image in images])
        settings = Nucleus(min_tokens=MOST_TOKENS, max_tokens=MOST_TOKENS)
        return list(sample_captions(self.model, self.pixels[list(images)], self.prompt, chances, settings).cpu())

    def _chances(self, image: int) -> Tensor:
        """(N, T) numbers that depend on the image alone, not on the batch that it is in."""
        generator = torch.Generator().manual_seed(image)
        return torch.rand(self.captions, MOST_TOKENS, dtype=torch.float64, generator=generator)


def caption_speed(device: Device, sizes: Sizes) -> Iterator[Row]:
    """Double the batch while that is faster and fits; fp32 is what the stage runs in, tf32 and bf16 are what it could gain."""
    best, fastest = sizes.caption_batches[0], 0.0
    captions = Captions.make(sizes, device, sizes.caption_batches[-1])
    for batch in sizes.caption_batches:
        figures = _rate(device, lambda: captions(range(batch)), batch)  # noqa: B023 - called at once
        if figures is None:
            yield Row(f"batch {batch}, fp32", {"note": "does not fit"})
            break
        rate = float(figures["images/s"])
        yield Row(f"batch {batch}, fp32", figures | hours(rate))
        if rate < GAIN * fastest:
            break
        best, fastest = batch, rate
    for precision in ("tf32", "bf16"):
        with device.precision(precision):
            figures = _rate(device, lambda: captions(range(best)), best)
        if figures is not None:
            rate = float(figures["images/s"])
            yield Row(f"batch {best}, {precision}", figures | {"times fp32": rate / fastest} | hours(rate))


@dataclass(frozen=True)
class Tagging:
    """An R-Tagger with images, label vectors and pairs to score."""

    model: Rlip
    images: Tensor
    mask: Tensor
    pooled: Tensor
    num_objects: int
    pairs: Sequence[PairParts]

    @classmethod
    def make(cls, sizes: Sizes, device: Device, batch: int) -> Tagging:
        """Return a tagger of the given size; texts are encoded once for a whole dataset, so they are made beforehand."""
        model = build(preset(sizes.tagger_preset).without_dropout(), device).eval()
        shake(model)
        given = make_batch(model.config, sizes, device, batch, sizes.tagger_objects, sizes.tagger_texts)
        with torch.inference_mode():
            pooled = model.encode_text(given.ids, given.present)
        generator = torch.Generator().manual_seed(2)
        pairs = []
        for _ in range(batch):
            boxes = torch.rand(2, sizes.tagger_pairs, 4, generator=generator) * 0.4 + 0.1
            labels = torch.randint(sizes.tagger_objects - 1, (2, sizes.tagger_pairs), generator=generator)
            pairs.append((boxes[0], boxes[1], labels[0], labels[1]))
        return cls(model, given.images, given.mask, pooled, sizes.tagger_objects, pairs)

    def __call__(self, images: Sequence[int], rows: int) -> list[Tensor]:
        """Score all pairs of some of the images, as a tagging stage does."""
        chosen = list(images)
        given = [self.pairs[image] for image in chosen]
        shown = self.images[chosen], self.mask[chosen]
        return score_pairs(self.model, *shown, self.pooled, self.num_objects, given, rows)


def tagging_speed(device: Device, sizes: Sizes) -> Iterator[Row]:
    """Score pairs at the stage's batch; fp32 is what the stage runs in."""
    batch, exact = sizes.tagger_batch, 0.0
    tagging = Tagging.make(sizes, device, batch)
    for precision in ("fp32", "tf32", "bf16"):
        with device.precision(precision):
            figures = _rate(device, lambda: tagging(range(batch), batch), batch)
        if figures is None:
            yield Row(f"batch {batch}, {precision}", {"note": "does not fit"})
            continue
        rate = float(figures["images/s"])
        exact = exact or rate
        yield Row(
            f"batch {batch}, {precision}",
            {**figures, "pairs/s": rate * sizes.tagger_pairs, "times fp32": rate / exact, **hours(rate)},
        )


def hours(rate: float) -> dict[str, Value]:
    """Return the GPU hours for Objects365 at a rate in images per second, and how they come about."""
    result = OBJECTS365_IMAGES / rate / 3600
    arithmetic = f"{OBJECTS365_IMAGES:,} / {rate:.1f} / 3600 = {result:,.1f} h"
    return {"Objects365 GPU hours": result, "arithmetic": arithmetic}


def _rate(device: Device, work: Callable[[], object], images: int) -> dict[str, Value] | None:
    """Return images per second and memory; None where it does not fit."""
    try:
        peak = device.peak(work)  # warms up too
        seconds = min(device.once(work), device.once(work))
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
    else:
        return {"images/s": images / seconds, "peak GB": peak}
    device.free()
    return None
