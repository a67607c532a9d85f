"""The pool of stages with a network has a place per GPU."""

import dagster as dg
import pytest

from dagster_project import instance as machine


def test_the_limit_follows_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    with dg.instance_for_test(overrides={"concurrency": {"pools": {"default_limit": 2}}}) as instance:
        for count, limits in ((4, {"gpu": 4}), (1, {"gpu": 1}), (0, {}), (0, {})):
            monkeypatch.setattr(machine, "gpus", lambda count=count: ["an H100"] * count)
            machine.follow_gpus(instance)
            assert {limit.name: limit.limit for limit in instance.event_log_storage.get_pool_limits()} == limits
