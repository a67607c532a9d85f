"""A picture of how a training went, for the run's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

from PIL import Image

from rlip_assets.storage.plotting import COLORS, LEGEND, as_image, new_figure

History = Mapping[str, Sequence[tuple[int, float]]]
"""Metric -> (step, value) in the order of steps."""
_TOTAL = ("loss", "held_out_loss")
_NOT_LOSSES = ("held_out_", "lr_", "seconds_", "gradient_", "memory_")


def curves_picture(history: History) -> Image.Image | None:
    """Return the total loss of training and held-out images beside the parts of the training loss; None where nothing has two steps."""
    long = {name: points for name, points in history.items() if len({step for step, _ in points}) > 1}
    total = [name for name in _TOTAL if name in long]
    parts = [
        name for name in long if name not in _TOTAL and not name.startswith(_NOT_LOSSES) and not name[-1].isdigit()
    ]
    if not total:
        return None
    figure = new_figure(9, 3.6)
    for axes, names, title in zip(
        figure.subplots(1, 2), (total, parts), ("loss", "its parts, last layer"), strict=True
    ):
        for name, color in zip(names, cycle(COLORS), strict=False):
            axes.plot(*zip(*long[name], strict=True), color=color, label=name.replace("_", " "))
        axes.set(xlabel="step", title=title, ylim=(0, None))
        if names:
            axes.legend(**LEGEND)
    return as_image(figure, dpi=100)
