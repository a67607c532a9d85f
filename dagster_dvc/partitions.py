"""Which partitions of a parent each partition of an asset reads; both are static."""

from __future__ import annotations

from collections import defaultdict

import dagster as dg

from dagster_dvc.project import DvcProject, Stage


def dependency(project: DvcProject, child: Stage, parent: Stage, key: dg.AssetKey) -> dg.AssetDep:
    """Return how `child` depends on `parent`, whose asset is `key`, partition by partition.

    Where each partition reads the one of the same key, Dagster is told so: a backfill then takes both assets in one run, otherwise it
    waits for all of a run's parents and starts another.
    """
    if not parent.partitioned:
        return dg.AssetDep(key)
    pairs = [
        (str(project.at[address].key), item.key)
        for item in child.items
        for address in item.parents
        if project.stage_of[address] is parent
    ]
    if child.partitioned:
        if child.partitions == parent.partitions and {*pairs} == {(name, name) for name in child.partitions}:
            return dg.AssetDep(key, partition_mapping=dg.IdentityPartitionMapping())
        downstream: dict[str, set[str]] = defaultdict(set)
        for above, below in pairs:
            downstream[above].add(str(below))
        return dg.AssetDep(key, partition_mapping=dg.StaticPartitionMapping(dict(downstream)))
    read = {above for above, _ in pairs}
    if read == set(parent.partitions):
        return dg.AssetDep(key, partition_mapping=dg.AllPartitionMapping())
    return dg.AssetDep(key, partition_mapping=dg.SpecificPartitionsPartitionMapping(sorted(read)))
