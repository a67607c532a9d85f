"""Batches of captions and of tagging against the memory of a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlip_assets.doctor.checks import labelling_memory
from rlip_assets.doctor.finding import Level
from rlip_assets.doctor.sizes import caption_bytes, tagging_bytes
from rlip_assets.lineage.environment import memory_limit
from rlip_assets.lineage.recipe_files import recipe

BASE = {
    "text_config": {"num_hidden_layers": 12, "hidden_size": 768, "vocab_size": 30524},
    "vision_config": {"image_size": 384, "patch_size": 16, "hidden_size": 768},
}


def test_estimates_are_those_that_were_measured() -> None:
    """GB at batch 1 in fp32, measured on processor cores, docs/datasets.md."""
    assert caption_bytes(BASE, 1, 10) / 1e9 == pytest.approx(0.457, rel=0.1)
    measured = {"tagger_r50_vg": 0.355, "tagger_swin_tiny_vg": 0.75, "tagger_swin_large_vg": 1.05}
    for name, gigabytes in measured.items():
        assert tagging_bytes(recipe(name), 1) / 1e9 == pytest.approx(gigabytes, rel=0.1)
    assert caption_bytes(BASE, 6, 5) == pytest.approx(6 * caption_bytes(BASE, 1, 5))


@pytest.mark.parametrize(("gpus", "told"), [([], "the system ends"), ([2**20] * 2, "it is halved")])
def test_a_batch_that_is_too_large_is_a_warning_with_one_that_fits(
    profile: Any, gpus: list[int], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile.write({"execution": {"engine": "processes", "workers": 4}})
    assert {finding.level for finding in labelling_memory.check(profile.case())} == {Level.OK}
    monkeypatch.setattr(labelling_memory, "gpu_memory", lambda: gpus)
    monkeypatch.setattr(labelling_memory, "memory_limit", lambda: 1_000_000_000)
    found = {finding.subject: finding for finding in labelling_memory.check(profile.case())}
    assert set(found) == {"captions.batch_size", "tagging.batch_size"}
    for finding in found.values():
        assert finding.level is Level.WARNING
        assert told in finding.message
        assert "fewer execution.workers than 4" in finding.remedy


def test_a_container_may_have_less_memory_than_its_machine(tmp_path: Path) -> None:
    whole = memory_limit(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limit(tmp_path) == whole
    (tmp_path / "memory.max").write_text("1000000\n")
    assert memory_limit(tmp_path) == 1_000_000
