"""Stand-ins of the six datasets: the official layouts, with a handful of photo-size JPEGs each.

Scenes of the micro world, four times as large, with the grain of a camera. Some photos are grayscale, and some are stored turned, with an
EXIF orientation. Unlike the micro world's own folders there is no `classes.json`: the vocabularies are the full official ones.
"""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rlip_assets.lineage.params.world import WorldParams
from rlip_assets.micro_world.stage import WRITERS
from rlip_assets.micro_world.writers import save_json

ENLARGED = 4
"""From the micro world's height of 128 pixels to 512."""
LENGTHS = ("x", "y", "w", "h", "width", "height", "bbox", "img_size")
ORIENTATION, TURNED = 0x0112, 6
"""Number of the EXIF tag, and its value for a photo that a viewer turns clockwise."""
GRAIN = 6.0
"""Standard deviation of a photo's noise, in grey levels."""


def write_datasets(folder: Path, images: int) -> dict[str, Path]:
    """Write all datasets below `folder`, with `images` images per split at most; return their roots."""
    parts = [name for name in WorldParams.model_fields if name not in ("seed", "hico_det_train", "hico_det_test")]
    sizes = {**dict.fromkeys(parts, images), "v_coco_trainval": 2 * images}
    world = WorldParams(
        **sizes, hico_det_train=400, hico_det_test=200
    )  # planned as a whole, so at least these; cut below
    roots = {}
    for dataset, write in WRITERS.items():
        roots[dataset] = root = folder / dataset
        write(root, world, lambda _: None)
        (root / "classes.json").unlink(missing_ok=True)
    _cut_hico_det(roots["hico_det"], images)
    _spread_visual_genome(roots["visual_genome"])
    for root in roots.values():
        for file in sorted(root.rglob("*.json")):
            save_json(file, enlarged(json.loads(file.read_text())))
        for photo, look in zip(sorted(root.rglob("*.jpg")), cycle(("plain", "gray", "turned", "plain")), strict=False):
            _make_photo(photo, look)
    return roots


def enlarged(value: Any, key: str = "") -> Any:
    """Return annotations with every length and area in them scaled."""
    if isinstance(value, dict):
        return {name: enlarged(part, name) for name, part in value.items()}
    if isinstance(value, list):
        return [enlarged(part, key) for part in value]
    factor = {"area": ENLARGED**2} | dict.fromkeys(LENGTHS, ENLARGED)
    return value * factor[key] if key in factor and isinstance(value, int | float) else value


def _cut_hico_det(root: Path, images: int) -> None:
    for split, name in (("train", "trainval"), ("test", "test")):
        file = root / f"annotations/{name}_hico.json"
        rows = json.loads(file.read_text())
        save_json(file, rows[:images])
        for row in rows[images:]:
            (root / f"images/{split}2015" / row["file_name"]).unlink()


def _spread_visual_genome(root: Path) -> None:
    """Put the photos into the two folders of the official archives."""
    photos = sorted((root / "images").iterdir())
    for number, photo in enumerate(photos):
        target = root / ("VG_100K", "VG_100K_2")[number % 2] / photo.name
        target.parent.mkdir(exist_ok=True)
        photo.rename(target)
    (root / "images").rmdir()


def _make_photo(file: Path, look: str) -> None:
    """Enlarge a drawing in place; `look` is plain, gray or turned."""
    with Image.open(file) as drawing:
        size = (drawing.width * ENLARGED, drawing.height * ENLARGED)
        pixels = np.asarray(drawing.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    noise = np.random.default_rng(len(file.name)).normal(0, GRAIN, pixels.shape)
    photo = Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))
    exif = Image.Exif()
    if look == "turned":
        photo = photo.transpose(Image.Transpose.ROTATE_90)
        exif[ORIENTATION] = TURNED
    elif look == "gray":
        photo = photo.convert("L")
    photo.save(file, quality=88, exif=exif)
