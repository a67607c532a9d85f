"""The summary of `rlip demo`."""

from __future__ import annotations

from rlip_assets.cli.summary import seconds_table
from rlip_assets.dvc.up_to_date import Launched


def test_share_of_orchestration_is_told() -> None:
    launched = [
        Launched(("captions@coco-0", "captions@coco-1"), "run", seconds=10.0, startup=1.0, work=8.0),
        Launched(("report",), "run", seconds=10.0, startup=0.0, work=9.0),
    ]
    *_, total, share = seconds_table(launched)
    assert total.split() == ["all", "3", "1.0", "17.0", "2.0"]
    assert share == "start-up and orchestration are 15.0 % of these seconds"
