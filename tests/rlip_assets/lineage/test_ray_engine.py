"""Stages on a Ray cluster of two nodes, one of which is killed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlip_assets.labelling.caption_parsing import parse_stage
from rlip_assets.labelling.label_tables import CaptionRow, write_rows
from rlip_assets.lineage.context import NullLog
from rlip_assets.lineage.engines import run
from rlip_assets.lineage.params.execution import ExecutionParams
from rlip_assets.lineage.shards import ShardStore
from rlip_assets.storage.errors import TransientError
from tests.support.engine_work import Deadly, HeldOnANode
from tests.support.label_factory import content, context, make_params

pytestmark = [pytest.mark.ray, pytest.mark.deep]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two raylets, each with room for one worker; the last test leaves one."""
    from ray.cluster_utils import Cluster

    settings = {"worker_niceness": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    with pytest.MonkeyPatch.context() as patched:
        # workers import what they are sent by its module's name, and inherit where to look
        patched.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        cluster = Cluster(True, head_node_args={"num_cpus": 1, "include_dashboard": False, "_system_config": settings})
        cluster.add_node(num_cpus=1)
        try:
            yield cluster
        finally:
            cluster.shutdown()


def test_a_shard_that_kills_its_workers_is_one_sentence(cluster: Any) -> None:
    execution = ExecutionParams(engine="ray", workers=2, ray_address=cluster.address)
    with pytest.raises(TransientError, match=r"lost 3 times at the same shard .*; finished shards are kept"):
        list(run(Deadly(), [0, 1], execution))


class Watching(NullLog):
    """Calls `act` once, as soon as `seen` is there."""

    def __init__(self, seen: Path, act: Callable[[], None]) -> None:
        self.seen, self.act, self.acted = seen, act, False

    def progress(self, done: int, total: int, unit: str) -> None:
        if self.seen.exists() and not self.acted:
            self.acted = True
            self.act()


def test_a_raylet_killed_in_mid_stage_changes_no_byte(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shard at which its worker was is made on the other node, and the stage goes on with one worker."""
    rows = [CaptionRow(str(n), [f"a man riding horse {n}", "a dog on a bench"]) for n in range(40)]
    write_rows(tmp_path / "in" / "part-00000.parquet", CaptionRow, rows)
    (node,) = cluster.worker_nodes
    held = tmp_path / "held"
    make_all = ShardStore.make_all

    def held_once(store: ShardStore, shards: Any, make: Any, *rest: Any) -> Any:
        return make_all(store, shards, HeldOnANode(make, node.node_id, held), *rest)

    def parse(name: str, log: NullLog, **execution: object) -> tuple[dict[str, Any], dict[str, bytes]]:
        params = make_params(tmp_path, parsing={"rows_per_shard": 4}, execution=execution)
        ctx = context(
            tmp_path / name, "caption_triplets", params, {"captions": tmp_path / "in"}, "caption_triplets", log
        )
        return parse_stage(ctx), content(ctx.outputs["caption_triplets"])

    want = parse("here", NullLog())
    assert len(want[1]) > 8
    monkeypatch.setattr(ShardStore, "make_all", held_once)
    log = Watching(held, lambda: cluster.remove_node(node, allow_graceful=False))
    assert parse("ray", log, engine="ray", workers=2, ray_address=cluster.address) == want
    assert log.acted
    assert cluster.worker_nodes == set()
