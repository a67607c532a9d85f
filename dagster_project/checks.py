"""Checks of results as Dagster shows them."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from rlip_assets.dvc.lock import present
from rlip_assets.lineage.runner import read_manifest
from rlip_assets.lineage.spec import Registry
from rlip_assets.tracking.verdicts import checks_of


def check_specs(stage: str, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return the declarations of a stage's checks, for its asset."""
    return [dg.AssetCheckSpec(check.name, asset=key, description=check.description) for check in checks_of(stage)]


def check_results(registry: Registry, root: Path, stage: str, key: dg.AssetKey) -> list[dg.AssetCheckResult]:
    """Run the checks of a stage on all partitions present in the tree, so that a good one does not hide a bad one."""
    manifests = {item.address: read_manifest(root, item) for item in registry.spec(stage).items if present(item, root)}
    results = []
    for check in checks_of(stage):
        verdicts = {address: check.judge(manifest, root) for address, manifest in manifests.items()}
        failed = [f"{address}: {words}" for address, (passed, words) in verdicts.items() if not passed]
        words = "; ".join(failed) or "; ".join(f"{address}: {words}" for address, (_, words) in verdicts.items())
        severity = dg.AssetCheckSeverity.WARN if check.warns else dg.AssetCheckSeverity.ERROR
        results.append(
            dg.AssetCheckResult(
                check_name=check.name, asset_key=key, passed=not failed, description=words, severity=severity
            )
        )
    return results
