"""Roots that are something else than a folder of the dataset; numbers beside the official ones."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from rlip_assets.doctor.checks import annotation_files, images, layouts
from rlip_assets.doctor.finding import Finding, Level
from tests.support.raw_roots import WRITERS, coco


def by_dataset(findings: list[Finding]) -> dict[str, list[Finding]]:
    return {dataset: [each for each in findings if each.subject == dataset] for dataset in WRITERS}


def test_a_root_that_cannot_be_hides_no_other(profile: Any) -> None:
    shutil.rmtree(profile.raw("hico_det"))
    profile.raw("hico_det").write_text("a file")
    profile.raw("v_coco").rename(profile.root / "elsewhere")
    profile.raw("v_coco").symlink_to("v_coco")
    sources = {"coco": {"root": "gs://bucket/coco", "buckets": 2}, "objects365": {"root": "data/raw/objects365"}}
    coco(profile.root / "data/raw/objects365")  # foreign files where the micro world draws
    profile.write({"sources": sources})
    case = profile.case()
    found = by_dataset([*layouts.check(case), *annotation_files.check(case), *images.check(case)])
    assert {name for name, rows in found.items() if any(row.level is Level.FAILED for row in rows)} == {
        "coco",
        "objects365",
        "hico_det",
        "v_coco",
    }
    assert "gs://bucket/coco" in found["coco"][0].message
    assert "micro world did not write" in found["objects365"][0].message
    assert "no folder" in found["hico_det"][0].message
    assert [row.level for row in found["visual_genome"]] == [Level.OK] * 3


def test_images_behind_a_link_are_told_once_and_counted(profile: Any) -> None:
    folder = profile.raw("open_images") / "images"
    folder.rename(profile.root / "photos")
    folder.symlink_to(profile.root / "photos")
    rows = [row for row in images.check(profile.case()) if row.subject == "open_images"]
    assert all("leads out of the root" in row.message for row in rows if row.level is Level.FAILED)
    assert len(rows) == 30
    few = [row for row in images.check(profile.case(sample=2)) if row.subject == "open_images"]
    assert len(few) == 6


def test_numbers_of_names_are_compared_with_the_official_ones(profile: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {("coco", "categories"): 80, ("open_images", "relation names"): 30, ("hico_det", "test relations"): 10}
    monkeypatch.setattr(annotation_files, "ANNOTATIONS", numbers)
    warnings = [row.message for row in annotation_files.check(profile.case()) if row.level is Level.WARNING]
    assert warnings == ["1 categories are listed, officially 80", "2 relation names are listed, officially 30"]
