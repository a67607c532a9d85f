"""Which changes of a raw folder its manifest has seen."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dagster_project.watch import newest_change, raw_changes
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.registry import build_registry
from rlip_assets.storage.files import write_json


@pytest.mark.parametrize(("startup", "seen"), [(1.9, True), (1.1, False)])
def test_a_manifest_has_seen_what_changed_before_its_work_began(tmp_path: Path, startup: float, seen: bool) -> None:
    """Both changes are after the process started, and both fall into the second that follows."""
    registry = build_registry(Params())
    raw = tmp_path / str(registry.item("raw_manifest", "coco").untracked["raw"])
    raw.mkdir(parents=True)
    assert raw_changes(registry, tmp_path) == []
    started = datetime.fromtimestamp(newest_change(raw) - 1.5, UTC).isoformat(timespec="milliseconds")
    write_json(tmp_path / "provenance/raw_manifest@coco.json", {"started": started, "seconds": {"startup": startup}})
    assert [due.partition for due in raw_changes(registry, tmp_path)] == ([] if seen else ["coco"])
