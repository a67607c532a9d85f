"""Recall of altered copies of pictures among other pictures, as decontamination does it (`rlip_assets/datasets/perceptual_hash.py`).

    python -m perf.likeness [--pictures 3000] [--copies 500] [--json out.json]

Pictures of the micro world, which share backdrops and sprites, stand for the images of a test split. Each alteration is applied to
`--copies` of them (enlarged four times before, so that a cut of 2 % is no whole number of pixels), and the copy is found when its likeness
to the original is at least `decontamination.min_likeness`. False matches are counted among all pairs of different pictures, mirrored ones
included. Ends with status 1 where a picture is taken for another one, or fewer than 99 % of an alteration are found.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from io import BytesIO
from random import Random
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageOps

from perf.command import JsonFile, run_command, write_figures
from rlip_assets.datasets.perceptual_hash import Thumbnails, alike, thumbnail
from rlip_assets.lineage.params.labels import DecontaminationParams
from rlip_assets.micro_world.render import render
from rlip_assets.micro_world.starting_weights.caption_quality import held_out_pictures

BAR = 0.99


def compressed(picture: Image.Image, quality: int, scale: float = 1.0) -> Image.Image:
    """The picture at another size, through JPEG."""
    stream = BytesIO()
    picture.resize((round(picture.width * scale), round(picture.height * scale))).save(stream, "JPEG", quality=quality)
    return Image.open(stream)


def cut(picture: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """The picture without these parts of its width and height."""
    width, height = picture.size
    return picture.crop(
        (round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height))
    )


def alterations(rng: Random) -> dict[str, Callable[[Image.Image], Image.Image]]:
    """By name, what may have happened to a copy."""

    def uniform(most: float) -> tuple[float, float, float, float]:
        left, top, right, bottom = (rng.uniform(0, most) for _ in range(4))
        return left, top, right, bottom

    return {
        "compressed, quality 60": lambda p: compressed(p, 60),
        "half size, quality 30": lambda p: compressed(p, 30, 0.5),
        "1.7 times the size, quality 70": lambda p: compressed(p, 70, 1.7),
        "mirrored": lambda p: compressed(ImageOps.mirror(p), 60),
        "2 % cut off every side": lambda p: compressed(cut(p, 0.02, 0.02, 0.02, 0.02), 60),
        "2 % cut off two sides": lambda p: compressed(cut(p, 0.02, 0.02, 0, 0), 60),
        "up to 2 % cut off each side": lambda p: compressed(cut(p, *uniform(0.02)), 60),
        "5 % cut off every side": lambda p: compressed(cut(p, 0.05, 0.05, 0.05, 0.05), 60),
        "5 % cut off one side": lambda p: compressed(cut(p, 0, 0, 0.05, 0), 60),
        "up to 5 % cut off each side": lambda p: compressed(cut(p, *uniform(0.05)), 60),
        "the same, mirrored, half size, quality 30": lambda p: compressed(
            ImageOps.mirror(cut(p, *uniform(0.05))), 30, 0.5
        ),
        "up to 8 % cut off each side (no bar)": lambda p: compressed(cut(p, *uniform(0.08)), 60),
    }


def likeness_of_copies(
    pictures: list[Image.Image], originals: Thumbnails, alter: Callable[[Image.Image], Image.Image]
) -> np.ndarray:
    """(n,) likeness of an altered copy of each picture to its original; 0 where both are not even compared cut."""
    found = []
    for picture, original in zip(pictures, originals, strict=True):
        large = picture.resize((4 * picture.width, 4 * picture.height), Image.Resampling.BICUBIC)
        copy = thumbnail(alter(large))
        pairs = [] if copy is None else list(alike(copy[None], original[None], 0.0))
        found.append(max((likeness for _, _, likeness in pairs), default=0.0))
    return np.array(found)


def main(
    picture_count: Annotated[int, typer.Option("--pictures")] = 3000,
    copies: int = 500,
    json_file: JsonFile = None,
) -> None:
    """Print recall by alteration and the likeness of different pictures."""
    least = DecontaminationParams().min_likeness
    pictures = [render(picture) for picture in held_out_pictures(5, picture_count)]
    thumbnails = np.stack([found for picture in pictures if (found := thumbnail(picture)) is not None])
    began = time.process_time()
    others = [(likeness, i, j) for i, j, likeness in alike(thumbnails, thumbnails, 0.8) if i < j]
    seconds = time.process_time() - began
    false = sum(likeness >= least for likeness, _, _ in others)
    pairs = len(thumbnails) * (len(thumbnails) - 1) // 2
    print(
        f"{pairs} pairs of different pictures, most alike: {', '.join(f'{x:.3f}' for x, _, _ in sorted(others)[::-1][:5])}"
    )
    print(f"taken for the same at {least}: {false}; {2 * pairs / seconds / 1e6:.0f} million pairs per processor second")
    figures: dict[str, object] = {"pairs": pairs, "false": false, "min_likeness": least, "most_alike": max(others)[0]}
    met = not false
    rng = Random(0)
    for name, alter in alterations(rng).items():
        likeness = likeness_of_copies(pictures[:copies], thumbnails[:copies], alter)
        share = float((likeness >= least).mean())
        figures[name] = share
        met &= share >= BAR or "no bar" in name
        low, middle = np.quantile(likeness, [0.01, 0.5])
        print(f"{name:44}found {100 * share:5.1f} %   likeness: 1 % below {low:.3f}, median {middle:.3f}")
    write_figures(json_file, figures)
    print(f"bars (no false match, {100 * BAR:g} % of copies): {'met' if met else 'missed'}")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    run_command(main)
