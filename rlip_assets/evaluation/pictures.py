"""Pictures of a benchmark's result: curves of its best and worst classes, and where the errors come from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

from rlip_assets.evaluation.core.results import ClassTable
from rlip_assets.storage.plotting import (
    BLUE,
    BROWN,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    SKY,
    VERMILLION,
    as_image,
    new_figure,
)

CLASSES_SHOWN = 4
COLORS = (GREEN, SKY, BLUE, GREY, PINK, ORANGE, VERMILLION, BROWN)
"""From good to bad."""


def curves_picture(table: ClassTable, title: str) -> Image.Image:
    """Precision over recall of the classes with the highest and the lowest AP above 0."""
    figure = new_figure(6.4, 4.2)
    axes = figure.subplots()
    ranked = [int(i) for i in np.argsort(-table.ap, kind="stable") if len(table.curve(int(i))[0])]
    shown = list(dict.fromkeys([*ranked[:CLASSES_SHOWN], *ranked[-CLASSES_SHOWN:]]))
    for color, i in zip(COLORS, shown, strict=False):
        recall, precision = table.curve(i)
        axes.step(
            [0, *recall], [precision[0], *precision], where="post", color=color,
            label=f"{' '.join(table.names[i])}: AP {100 * table.ap[i]:.1f}",
        )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title=title)
    if shown:
        axes.legend(frameon=False, fontsize=7)
    axes.grid(alpha=0.3)
    return as_image(figure)


def causes_picture(shares: Mapping[str, float], title: str) -> Image.Image:
    """Shares of the causes among the triplets looked at."""
    figure = new_figure(6.4, 2.6)
    axes = figure.subplots()
    bars = axes.barh(list(shares), [100 * share for share in shares.values()], color=COLORS[: len(shares)])
    axes.bar_label(bars, fmt="%.1f", fontsize=8, padding=2)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(xlabel="% of the best R triplets of an image (R annotated)", title=title)
    return as_image(figure)
