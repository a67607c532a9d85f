"""Checks of results, as pure functions of an item's manifest and its profile: cheap enough for every materialisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlip_assets.labelling.drift import Drift
from rlip_assets.lineage.history import manifest_before
from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.runner import MANIFEST_SCHEMA
from rlip_assets.tracking.promotion import gate, promotion

Manifest = Mapping[str, Any]
Verdict = tuple[bool, str]


@dataclass(frozen=True)
class Check:
    """One check of one stage."""

    name: str
    description: str
    judge: Callable[[Manifest | None, Path], Verdict]
    """Returns whether a manifest passes, and why; the second argument is the root of its profile."""
    warns: bool = False
    """True where failing it is a warning and no error."""


def schema_valid(stage: str) -> Check:
    """Return the check that the manifest exists, has the known schema and belongs to this stage."""

    def judge(manifest: Manifest | None, _: Path) -> Verdict:
        if manifest is None:
            return False, "there is no manifest"
        if manifest.get("schema") != MANIFEST_SCHEMA:
            return False, f"schema {manifest.get('schema')}, this code reads {MANIFEST_SCHEMA}"
        if manifest.get("stage") != stage:
            return False, f"the manifest is of stage {manifest.get('stage')}"
        return True, "readable"

    return Check("schema_valid", "The manifest is there and of the schema that this code reads.", judge)


def in_range(name: str, figure: str, lowest: float, highest: float, description: str, per: str | None = None) -> Check:
    """Return a check that a figure of the manifest (dotted name), or its ratio to the figure `per`, lies within bounds."""
    spoken = f"{figure} / {per}" if per else figure

    def judge(manifest: Manifest | None, _: Path) -> Verdict:
        value = figure_of(manifest, figure)
        whole = 1 if per is None else figure_of(manifest, per)
        if not isinstance(value, int | float) or not isinstance(whole, int | float):
            return False, f"the manifest has no figure '{spoken}'"
        if whole == 0:
            return False, f"{per} = 0"
        return lowest <= value / whole <= highest, f"{spoken} = {value / whole:.3g}"

    return Check(name, description, judge)


def no_test_image_in_training() -> Check:
    """Return the check that no training image is a test image of a benchmark."""

    def judge(manifest: Manifest | None, _: Path) -> Verdict:
        value = figure_of(manifest, "test_images_in_training")
        if not isinstance(value, int):
            return False, "the manifest has no figure 'test_images_in_training'"
        return value == 0, f"{value} test images in training"

    return Check("no_test_image_in_training", "No image of a benchmark's test split was trained on.", judge)


def above_floor() -> Check:
    """Return the check that the headline figure is at least `benchmarks.floor`; it only warns, since a bad model is a result too."""

    def judge(manifest: Manifest | None, _: Path) -> Verdict:
        value = figure_of(manifest, "headline")
        floor = ((manifest or {}).get("params", {}).get("benchmarks") or {}).get("floor")
        if not isinstance(value, int | float) or not isinstance(floor, int | float):
            return False, "the manifest has no headline figure or no floor"
        return value >= floor, f"headline figure {value:.4f}, floor {floor:.4f}"

    words = "The headline figure (HICO-DET mAP, V-COCO role AP S1, Open Images score_wtd) is at least benchmarks.floor."
    return Check("metric_above_floor", words, judge, warns=True)


def promotable(stage: str) -> Check:
    """Return the gate of `rlip promote` as a check; it only warns, since an unpromoted model does no harm."""

    def judge(manifest: Manifest | None, root: Path) -> Verdict:
        return gate(manifest, load_params(root / "params.yaml").promotion, promotion(root, stage))

    words = "The model may be promoted: its held-out figure is above the floor and not below that of the promoted one."
    return Check("promotion_gate", words, judge, warns=True)


def promotable_detector() -> Check:
    """Return the gate of `rlip promote` for the network whose benchmark is checked; it only warns."""

    def judge(manifest: Manifest | None, root: Path) -> Verdict:
        address = str((manifest or {}).get("partition")).replace("-", "@", 1)
        return gate(manifest, load_params(root / "params.yaml").promotion.detectors, promotion(root, address))

    words = (
        "The network may be promoted: its headline figure is above the floor and not below that of the promoted one."
    )
    return Check("promotion_gate", words, judge, warns=True)


def compared_images() -> Check:
    """Return the check that few images are too plain or damaged to be compared with test images."""
    words = "Images that could be compared with test images."
    return in_range("compared_images", "compared", 0.9, 1, words, per="images")


def drift(counted: str) -> Check:
    """Return the check that figures are near those of the previous result; it only warns, since a change may be intended."""

    def judge(manifest: Manifest | None, root: Path) -> Verdict:
        before = manifest_before(root, manifest) if manifest else None
        if manifest is None or before is None:
            return True, "no earlier result to compare with"
        distances = Drift.between(before.get("figures", {}), manifest.get("figures", {}), counted)
        return distances.judge(load_params(root / "params.yaml").drift)

    words = f"Yield, confidences and relations are near those of the {counted} before (limits: `drift` in params.yaml)."
    return Check("drift", words, judge, warns=True)


def figure_of(manifest: Manifest | None, name: str) -> Any:
    """Return the figure with the dotted `name`, None if it is missing."""
    value: Any = (manifest or {}).get("figures", {})
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


_CHECKS: dict[str, tuple[Check, ...]] = {
    "scenes": (in_range("usable_images", "images", 0.9, 1, "Images that were not quarantined.", per="input"),),
    "captions": (
        in_range("captions_per_image", "captions", 1, 100, "Captions of an image.", per="images"),
        in_range(
            "captions_differ", "different_captions", 0.05, 1, "Captions that differ within an image.", per="captions"
        ),
    ),
    "caption_triplets": (
        in_range("triplets_per_image", "triplets", 0.1, 100, "Parsed triplets of an image.", per="images"),
    ),
    "candidates": (
        in_range("candidates_per_image", "candidates", 0.1, 200, "Relation candidates of an image.", per="images"),
        drift("candidates"),
    ),
    "decontamination": (compared_images(),),
    "human_decontamination": (compared_images(),),
    "pseudo_labels": (
        in_range("labels_per_image", "labels", 0.05, 100, "Pseudo labels of an image.", per="images"),
        drift("labels"),
    ),
    "label_quality": (in_range("precision", "precision", 0.5, 1, "Right labels at the operating threshold."),),
    "r_tagger": (no_test_image_in_training(), promotable("r_tagger")),
    "pretrain": (no_test_image_in_training(),),
    "finetune": (no_test_image_in_training(),),
    "benchmark": (above_floor(), promotable_detector()),
}
"""Stage -> what is checked besides the schema."""


def checks_of(stage: str) -> tuple[Check, ...]:
    """Return the checks of a stage."""
    return (schema_valid(stage), *_CHECKS.get(stage, ()))
