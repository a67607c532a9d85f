"""Dependence of captions on the batch size: the same images captioned with several, against one of them.

    python -m perf.caption_identity [--images 300] [--captions 10] [--batches 1,4,16,32] [--against 8] [--json out.json]

The shipped captioner samples captions of pictures of the micro world that no dataset has, with the decoding of the lineage. One batch
size gives the same captions whatever the order and the company of images (checked here too, with the images backwards); float sums of
others differ in the last bits, which may turn a draw at the border between two tokens. Ends with status 1 where fewer than 99.9 % of
the captions are identical.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import torch
from PIL import Image

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


def main() -> None:
    """Print the share of identical captions for each batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--captions", type=int, default=10)
    parser.add_argument("--batches", type=lambda text: [int(part) for part in text.split(",")], default=[1, 4, 16, 32])
    parser.add_argument("--against", type=int, default=8)
    parser.add_argument("--captioner", default=str(CAPTIONER))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    params = CaptionParams(captions_per_image=options.captions)
    captioner = Captioner.open(options.captioner, params, options.device)
    images = [render(picture) for picture in held_out_pictures(1, options.images)]
    ids = [f"picture-{number}" for number in range(len(images))]
    total = options.images * options.captions

    reference = captions(captioner, ids, images, options.against)
    backwards = captions(captioner, ids[::-1], images[::-1], options.against)
    shares = {f"{options.against}, backwards": identical(reference, backwards) / total}
    for batch in options.batches:
        began = time.perf_counter()
        shares[str(batch)] = identical(reference, captions(captioner, ids, images, batch)) / total
        print(f"batch size {batch}: {options.images / (time.perf_counter() - began):.1f} images/s", file=sys.stderr)
    figures = {
        "images": options.images,
        "captions": total,
        "different_captions": len({text for texts in reference.values() for text in texts}),
        "against_batch_size": options.against,
        "identical": shares,
        "machine": f"{platform.machine()}, {options.threads} thread(s), {options.device}",
    }
    print(f"{total} captions of {options.images} images, {figures['different_captions']} different texts")
    for name, share in shares.items():
        print(f"batch size {name:16}{100 * share:8.3f} % identical to batch size {options.against}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    met = min(shares.values()) >= BAR
    print(f"bar {100 * BAR:g} %: {'met' if met else 'missed'}")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
