"""A profile in which nothing is wrong."""

from __future__ import annotations

from typing import Any

from rlip_assets.doctor.finding import Level
from rlip_assets.doctor.registry import CHECKS, examine


def test_a_healthy_profile_has_a_clean_table(profile: Any) -> None:
    begun: list[str] = []
    rows = list(examine(profile.case(), begun.append))
    wrong = [row for row in rows if row.finding.level in (Level.FAILED, Level.WARNING)]
    assert wrong == []
    assert begun == list(CHECKS)
    fine = {(row.check, row.finding.subject) for row in rows if row.finding.level is Level.OK}
    datasets = ("visual_genome", "coco", "objects365", "hico_det", "v_coco", "open_images")
    assert {(check, name) for check in ("layout", "annotations", "images") for name in datasets} <= fine
