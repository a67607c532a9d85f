"""What papers quote of each benchmark first."""

from __future__ import annotations

from typing import NamedTuple

from rlip_assets.evaluation.core.protocols import HICO_RLIPV2, NMS, OI_TRIPLET, VCOCO_OFFICIAL


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
