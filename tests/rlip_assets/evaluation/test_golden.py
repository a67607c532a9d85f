"""The evaluators give the recorded figures of the published ones."""

from __future__ import annotations

from pathlib import Path

from tests.support.golden_check import check_folder

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "evaluation"


def test_every_recorded_figure_is_met() -> None:
    found = list(check_folder(GOLDEN))
    assert len(found) == 9
    assert [f"{each.case} {each.run}" for each in found if not each.passed] == []
