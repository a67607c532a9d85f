"""Return the buckets that the schedule asks for."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest

from dagster_project.defs import automation
from dagster_project.profile import active_profile
from rlip_assets.storage.errors import BusyError

BUCKETS = list(active_profile().registry.spec("pseudo_labels").partitions)


def asked_for(monkeypatch: pytest.MonkeyPatch, changed: set[str] | None, in_tree: bool = True) -> list[str] | str:
    """Partitions of the runs of a tick, or why there are none; `changed`: what DVC says, None while it is busy."""

    def changed_items(registry: object, root: object) -> set[str]:
        if changed is None:
            raise BusyError("at work")
        return changed

    monkeypatch.setattr(automation, "changed_items", changed_items)
    monkeypatch.setattr(automation, "present", lambda item, root: in_tree)
    confirmed: list[str] = []
    monkeypatch.setattr(
        automation, "report_external", lambda instance, project, translator, current: confirmed.extend(current)
    )
    with dg.instance_for_test() as instance:
        moment = datetime(2026, 1, 5, 3, tzinfo=UTC)
        found = automation.weekly_retag(dg.build_schedule_context(instance, scheduled_execution_time=moment))
    assert bool(confirmed) == (changed == {"report"})  # else the runs tell the freshness policy
    if isinstance(found, dg.SkipReason):
        return str(found.skip_message)
    assert isinstance(found, list)
    assert [request.run_key for request in found] == [f"2026-02:{request.partition_key}" for request in found]
    return [str(request.partition_key) for request in found]


def test_buckets_whose_labels_are_out_of_date(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {f"candidates@{BUCKETS[1]}", f"pseudo_labels@{BUCKETS[0]}", f"scenes@{BUCKETS[2]}", "report"}
    assert asked_for(monkeypatch, changed) == BUCKETS[:2]


def test_all_buckets_while_dvc_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A week without labels would be worse than runs that find nothing to do."""
    assert asked_for(monkeypatch, None) == BUCKETS


def test_none_where_nothing_is_out_of_date_or_nothing_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked_for(monkeypatch, {"report"}) == "the labels of all buckets are current"
    found = asked_for(monkeypatch, {f"captions@{BUCKETS[0]}"}, in_tree=False)
    assert isinstance(found, str)
    assert found.startswith(f"r_tagger, scenes@{BUCKETS[0]} are not in the tree")
