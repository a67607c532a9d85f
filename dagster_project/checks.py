"""Asset checks, as pure functions of an item's manifest: cheap enough to run at every materialisation and every synchronisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from rlip_assets.dvc_lock import present
from rlip_assets.stage_runner import MANIFEST_SCHEMA, read_manifest
from rlip_assets.stage_spec import Registry

Manifest = Mapping[str, Any]
Verdict = tuple[bool, str]


@dataclass(frozen=True)
class Check:
    """One check of one stage."""

    name: str
    description: str
    judge: Callable[[Manifest | None], Verdict]


def schema_valid(stage: str) -> Check:
    """The manifest exists, is of the known schema and speaks of this stage."""

    def judge(manifest: Manifest | None) -> Verdict:
        if manifest is None:
            return False, "there is no manifest"
        if manifest.get("schema") != MANIFEST_SCHEMA:
            return False, f"schema {manifest.get('schema')}, this code reads {MANIFEST_SCHEMA}"
        if manifest.get("stage") != stage:
            return False, f"the manifest is of stage {manifest.get('stage')}"
        return True, "readable"

    return Check("schema_valid", "The manifest is there and of the schema that this code reads.", judge)


def in_range(name: str, figure: str, lowest: float, highest: float | None, description: str) -> Check:
    """A figure of the manifest (dotted name) lies within bounds."""

    def judge(manifest: Manifest | None) -> Verdict:
        value = figure_of(manifest, figure)
        if not isinstance(value, int | float):
            return False, f"the manifest has no figure '{figure}'"
        return lowest <= value <= (float("inf") if highest is None else highest), f"{figure} = {value:g}"

    return Check(name, description, judge)


def no_test_image_in_training() -> Check:
    """Training counts the images of each split it saw; none may be of a test split."""

    def judge(manifest: Manifest | None) -> Verdict:
        value = figure_of(manifest, "test_images_in_training")
        if not isinstance(value, int):
            return False, "the manifest has no figure 'test_images_in_training'"
        return value == 0, f"{value} test images in training"

    return Check("no_test_image_in_training", "No image of a benchmark's test split was trained on.", judge)


def figure_of(manifest: Manifest | None, name: str) -> Any:
    """The figure with the dotted `name`, None where there is none."""
    value: Any = (manifest or {}).get("figures", {})
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def checks_of(stage: str) -> tuple[Check, ...]:
    """The checks of a stage."""
    return (schema_valid(stage), *_CHECKS.get(stage, ()))


_CHECKS: dict[str, tuple[Check, ...]] = {}
"""Stage -> what is checked besides the schema."""


def check_specs(stage: str, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Declarations of a stage's checks, for the asset that shows it."""
    return [dg.AssetCheckSpec(check.name, asset=key, description=check.description) for check in checks_of(stage)]


def check_results(registry: Registry, root: Path, stage: str, key: dg.AssetKey) -> list[dg.AssetCheckResult]:
    """What the checks of a stage say of all its partitions that lie in the tree, so that a good one does not hide a bad one."""
    manifests = {item.address: read_manifest(root, item) for item in registry.spec(stage).items if present(item, root)}
    results = []
    for check in checks_of(stage):
        verdicts = {address: check.judge(manifest) for address, manifest in manifests.items()}
        failed = [f"{address}: {words}" for address, (passed, words) in verdicts.items() if not passed]
        words = "; ".join(failed) or "; ".join(f"{address}: {words}" for address, (_, words) in verdicts.items())
        results.append(dg.AssetCheckResult(check_name=check.name, asset_key=key, passed=not failed, description=words))
    return results
