"""The figure of each benchmark that papers quote first, and the names under which training records it."""

from __future__ import annotations

from typing import NamedTuple

from rlip_assets.evaluation.core.protocols import HICO_RLIPV2, NMS, OI_TRIPLET, VCOCO_OFFICIAL

HEADLINE = "headline"
"""Name of the first figure in the rows of an evaluation during training."""
EVALUATED = "evaluated_"
"""Prefix of the figures that an evaluation adds to the row of its training step."""


class Headline(NamedTuple):
    """The first figure of a benchmark.

    Attributes:
        protocol: its name with the variant.
        figure: the one figure of it that results are compared by.
        task: the task whose classes are shown one by one.
    """

    protocol: str
    figure: str
    task: str


HEADLINES = {
    "hico_det": Headline(f"{HICO_RLIPV2}/{NMS}", "full", ""),
    "v_coco": Headline(VCOCO_OFFICIAL, "role_ap_s1_24", "role_s1"),
    "open_images": Headline(f"{OI_TRIPLET}/{NMS}", "score_wtd", "rel_100"),
}
