"""Partitions of the assets and their mappings between assets; both follow from the registry and are static."""

from __future__ import annotations

from collections import defaultdict

import dagster as dg

from rlip_assets.lineage.spec import Registry


def partitions_of(registry: Registry, stage: str) -> dg.StaticPartitionsDefinition | None:
    """Return the partitions of a stage, None if it has none."""
    keys = registry.spec(stage).partitions
    return dg.StaticPartitionsDefinition(list(keys)) if keys else None


def dependency(registry: Registry, child: str, parent: str, prefix: str) -> dg.AssetDep:
    """Return the dependency of `child` on `parent`, partition by partition as the paths of their items imply.

    Equal keys become an identity mapping: only then does a backfill run both assets in one run instead of waiting for all parents.

    Args:
        prefix: first part of all asset keys.
    """
    key = dg.AssetKey([prefix, parent])
    if not registry.spec(parent).partitions:
        return dg.AssetDep(key)
    pairs = [
        (registry.at(address).partition, item.partition)
        for item in registry.spec(child).items
        for address in registry.parents[item.address]
        if registry.at(address).stage == parent
    ]
    keys = registry.spec(child).partitions
    if keys == registry.spec(parent).partitions and {*pairs} == {(name, name) for name in keys}:
        return dg.AssetDep(key, partition_mapping=dg.IdentityPartitionMapping())
    if keys:
        downstream: dict[str, set[str]] = defaultdict(set)
        for above, below in pairs:
            downstream[str(above)].add(str(below))
        return dg.AssetDep(key, partition_mapping=dg.StaticPartitionMapping(dict(downstream)))
    read = [str(above) for above, _ in pairs]
    if set(read) == set(registry.spec(parent).partitions):
        return dg.AssetDep(key, partition_mapping=dg.AllPartitionMapping())
    return dg.AssetDep(key, partition_mapping=dg.SpecificPartitionsPartitionMapping(read))
