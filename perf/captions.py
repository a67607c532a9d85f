"""Captioning speed: N captions from one encoding of an image, against N separate passes as published.

    python -m perf.captions [--size large_like|micro] [--images 8] [--captions 10] [--device cpu] [--json out.json]

`large_like` is a BLIP with random weights whose image encoder dominates as in the large model (24 layers, 384 pixels; `--width`
makes it narrower so that a laptop can run it). Separate passes use the same sampling code with one caption a pass, so that only the
encoding of the image and the reading of the prompt are repeated. Batches and threads are the same on both sides.
"""

from __future__ import annotations

import platform
import time
from typing import Annotated, Any, Literal

import torch
import typer
from transformers import BlipConfig, BlipForConditionalGeneration

from perf.command import JsonFile, run_command, write_figures
from rlip_assets.labelling.captions.decoding import Nucleus, sample_captions

PROMPT = [1, 10, 11, 12]
SIZES = {
    "large_like": {"image": 384, "patch": 16, "vision_layers": 24, "text_layers": 12, "vocabulary": 30524},
    "micro": {"image": 128, "patch": 16, "vision_layers": 5, "text_layers": 3, "vocabulary": 421},
}


def build(size: str, width: int) -> BlipForConditionalGeneration:
    """A BLIP with random weights; a wide vocabulary keeps captions at full length."""
    sizes = SIZES[size]
    torch.manual_seed(0)
    vision = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": sizes["vision_layers"],
        "num_attention_heads": 8,
        "image_size": sizes["image"],
        "patch_size": sizes["patch"],
    }
    text_width = width * 3 // 4 if size == "large_like" else width
    text = {
        "vocab_size": sizes["vocabulary"],
        "hidden_size": text_width,
        "encoder_hidden_size": width,
        "intermediate_size": 4 * text_width,
        "num_hidden_layers": sizes["text_layers"],
        "num_attention_heads": 8,
        "bos_token_id": PROMPT[0],
        "sep_token_id": 2,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "projection_dim": text_width,
    }
    config = BlipConfig(
        vision_config=vision, text_config=text, projection_dim=text_width, image_text_hidden_size=text_width
    )
    return BlipForConditionalGeneration(config).eval()


def main(
    size: Annotated[Literal["large_like", "micro"], typer.Option()] = "large_like",
    width: Annotated[int, typer.Option(help="Width of the image encoder (1024 in the large model).")] = 256,
    images: int = 4,
    captions: int = 10,
    rounds: int = 2,
    threads: int = 1,
    device: str = "cpu",
    json: JsonFile = None,
) -> None:
    """Print images per second of both ways and their ratio."""
    torch.set_num_threads(threads)
    model: Any = build(size, width)
    model = model.to(device)
    side = SIZES[size]["image"]
    pixels = torch.randn(images, 3, side, side, device=device)
    settings = Nucleus(min_tokens=20, max_tokens=20)
    chances = torch.rand(images, captions, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def together() -> torch.Tensor:
        return sample_captions(model, pixels, PROMPT, chances, settings)

    def apart() -> torch.Tensor:
        return torch.cat(
            [sample_captions(model, pixels, PROMPT, chances[:, n : n + 1], settings) for n in range(captions)],
            dim=1,
        )

    def seconds(work: object) -> float:
        started = time.perf_counter()
        work()  # type: ignore[operator]
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    same = bool((together() == apart()).float().mean() > 0.999)
    best = [min(seconds(work) for _ in range(rounds)) for work in (together, apart)]
    figures = {
        "size": size,
        "width": width,
        "captions_per_image": captions,
        "images_per_second": images / best[0],
        "images_per_second_separate_passes": images / best[1],
        "ratio": best[1] / best[0],
        "same_captions": same,
        "machine": f"{platform.machine()}, {threads} thread(s), {device}",
    }
    for name, value in figures.items():
        print(f"{name:36}{value:.2f}" if isinstance(value, float) else f"{name:36}{value}")
    write_figures(json, figures)


if __name__ == "__main__":
    run_command(main)
