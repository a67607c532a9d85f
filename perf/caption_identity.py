"""Dependence of captions on the batch size: the same images captioned with several, against one of them.

    python -m perf.caption_identity [--images 300] [--captions 10] [--batches 1,4,16,32] [--against 8] [--json out.json]

The shipped captioner samples captions of pictures of the micro world that no dataset has, with the decoding of the lineage. One batch
size gives the same captions whatever the order and the company of images (checked here too, with the images backwards); float sums of
others differ in the last bits, which may turn a draw at the border between two tokens. Ends with status 1 where fewer than 99.9 % of
the captions are identical.
"""

from __future__ import annotations

import platform
import sys
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image

from perf.command import JsonFile, run_command, write_figures
from rlip_assets.labelling.captions.captioner import Captioner
from rlip_assets.lineage.params.labels import CaptionParams
from rlip_assets.micro_world.render import render
from rlip_assets.micro_world.starting_weights.caption_quality import held_out_pictures

BAR = 0.999
CAPTIONER = Path(__file__).parents[1] / "rlip_assets/micro_world/starting_weights/weights/captioner"


def captions(captioner: Captioner, ids: list[str], images: list[Image.Image], batch: int) -> dict[str, list[str]]:
    """Captions by image id, made in batches of exactly `batch`, the last one filled up as the stage does it."""
    found: dict[str, list[str]] = {}
    for start in range(0, len(ids), batch):
        part = [*range(start, min(start + batch, len(ids)))]
        part += [part[-1]] * (batch - len(part))
        found |= zip((ids[i] for i in part), captioner([ids[i] for i in part], [images[i] for i in part]), strict=True)
    return found


def identical(first: dict[str, list[str]], second: dict[str, list[str]]) -> int:
    """Return the number of captions of the same image and number that are the same text."""
    return sum(a == b for image, texts in first.items() for a, b in zip(texts, second[image], strict=True))


def main(
    images: int = 300,
    per_image: Annotated[int, typer.Option("--captions")] = 10,
    batches: str = "1,4,16,32",
    against: int = 8,
    folder: Annotated[str, typer.Option("--captioner")] = str(CAPTIONER),
    threads: int = 1,
    device: str = "cpu",
    json: JsonFile = None,
) -> None:
    """Print the share of identical captions for each batch size."""
    torch.set_num_threads(threads)
    captioner = Captioner.open(folder, CaptionParams(captions_per_image=per_image), device)
    pictures = [render(picture) for picture in held_out_pictures(1, images)]
    ids = [f"picture-{number}" for number in range(images)]
    total = images * per_image

    reference = captions(captioner, ids, pictures, against)
    backwards = captions(captioner, ids[::-1], pictures[::-1], against)
    shares = {f"{against}, backwards": identical(reference, backwards) / total}
    for batch in map(int, batches.split(",")):
        began = time.perf_counter()
        shares[str(batch)] = identical(reference, captions(captioner, ids, pictures, batch)) / total
        print(f"batch size {batch}: {images / (time.perf_counter() - began):.1f} images/s", file=sys.stderr)
    different = len({text for texts in reference.values() for text in texts})
    print(f"{total} captions of {images} images, {different} different texts")
    for name, share in shares.items():
        print(f"batch size {name:16}{100 * share:8.3f} % identical to batch size {against}")
    figures = {
        "images": images,
        "captions": total,
        "different_captions": different,
        "against_batch_size": against,
        "identical": shares,
        "machine": f"{platform.machine()}, {threads} thread(s), {device}",
    }
    write_figures(json, figures)
    met = min(shares.values()) >= BAR
    print(f"bar {100 * BAR:g} %: {'met' if met else 'missed'}")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    run_command(main)
