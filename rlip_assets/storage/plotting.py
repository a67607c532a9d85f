"""One style for every plot: sizes, colours that colour-blind readers tell apart (Okabe and Ito), and the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from rlip_assets.storage.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILLION, GREEN, PINK, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
GREY, BROWN = "#999999", "#7f3b08"
COLORS = (BLUE, VERMILLION, GREEN, PINK, ORANGE, SKY)
"""Colours of series, in this order."""
GUIDE: dict[str, Any] = {"color": "#767676", "linestyle": "--"}
"""Style of a reference line."""
LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 8}


def new_figure(width: float = 5.6, height: float = 3.6) -> Figure:
    """Return an empty figure of this size in inches; it belongs to no window and needs no closing."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams["text.parse_math"] = False  # a "$" in a class name is a dollar
    return Figure(figsize=(width, height))


@contextmanager
def plot_file(
    file: Path, title: str = "", *, grid: Literal["both", "x", "y"] | None = "both", **labels: str
) -> Iterator[Axes]:
    """Yield axes with `labels` (`xlabel`, `ylabel`) to draw on, then add legend and grid, and write them as PNG."""
    figure = new_figure()
    axes = figure.subplots()
    axes.set(title=title, **labels)
    yield axes
    if axes.get_legend() is None and axes.get_legend_handles_labels()[0]:
        axes.legend(**LEGEND)
    if grid:
        axes.grid(axis=grid, alpha=0.3)
    with atomic_file(file) as temporary:
        temporary.write_bytes(_png(figure, 130))


def as_image(figure: Figure, dpi: int = 110) -> Image.Image:
    """Return a figure as an RGB image."""
    return Image.open(io.BytesIO(_png(figure, dpi))).convert("RGB")


def _png(figure: Figure, dpi: int) -> bytes:
    figure.tight_layout()
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()
