"""One module per dataset: its pictures, drawn and written in the official raw layout.

Every `write(root, params, progress)` fills an empty folder and returns figures about it; those of the detection datasets also return the
true relations of their images, which no file below `root` contains.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlip_assets.micro_world.picture import Picture
from rlip_assets.micro_world.render import encode_jpeg, render

ON_BOARDS = {"surfboard": "surf", "skateboard": "skateboard"}
"""V-COCO and Open Images name riding a board by the board."""
Progress = Callable[[int], None]
"""Called with the number of images just finished."""


def save_picture(path: Path, picture: Picture) -> None:
    """Draw a picture and write it as JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_jpeg(render(picture)))


def save_json(path: Path, value: Any) -> None:
    """Write JSON without spaces, as the releases do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, separators=(",", ":"), ensure_ascii=False))


def corner_box(box: tuple[float, float, float, float]) -> list[float]:
    """x y width height of an x1 y1 x2 y2 box."""
    x1, y1, x2, y2 = box
    return [float(x1), float(y1), float(x2 - x1), float(y2 - y1)]
