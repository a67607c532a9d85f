"""The concurrency pool of stages with a network: as many at a time as there are GPUs."""

from __future__ import annotations

from dagster import DagsterInstance

from rlip_assets.lineage.environment import gpus

GPU_POOL = "gpu"


def follow_gpus(instance: DagsterInstance) -> None:
    """Set the limit of the pool `gpu` to the number of GPUs of this machine; without one, the instance's default limit holds."""
    storage, count = instance.event_log_storage, len(gpus())
    if not storage.supports_global_concurrency_limits:
        return
    if count:
        storage.set_concurrency_slots(GPU_POOL, count)
    elif any(limit.name == GPU_POOL and not limit.from_default for limit in storage.get_pool_limits()):
        storage.delete_concurrency_limit(GPU_POOL)
