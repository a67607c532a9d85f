"""Weights, tokenizers and other inputs that no stage makes: there, undamaged, and of the sizes that their stages need.

Shapes are compared by the headers of files and networks without memory; a digest that a file carries is verified.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rlip_assets.datasets.scenes import count_scenes
from rlip_assets.doctor.examination import Examination
from rlip_assets.doctor.finding import Finding, failed, guarded, ok, skipped
from rlip_assets.doctor.foreign_inputs import ForeignInput, foreign_inputs
from rlip_assets.lineage.params.placeholders import is_placeholder
from rlip_assets.storage.files import sha256_file

_REMEDIES = {
    "detector": "rlip import-detector FILE.pth FOLDER, then name the folder in {key}",
    "text_encoder": "fetch roberta-base (model.safetensors, tokenizer.json) and name its folder in {key}",
    "captioner": "fetch a BLIP captioner and name its folder in {key}",
    "r_tagger": "rlip import-checkpoint FILE.pth FOLDER, then name the folder in {key}",
    "checkpoint": "rlip import-checkpoint FILE.pth FOLDER, then name the folder in {key}",
    "detection_model": "fetch an object detection model and name its folder in detections.model",
    "image_list": "fetch the released few-shot split, or train on a share instead",
}

_FROM_HUB = ("detection_model", "captioner", "tagging_model")
"""Roles of models that may be named as on a hub."""


def check(case: Examination) -> Iterator[Finding]:
    """Look at each input of the pipeline that no stage writes, once for each network that reads it."""
    if case.params is None or case.stages is None:
        return
    for given in foreign_inputs(case.params, case.stages):
        role, path, subject = given.role, given.path, given.subject
        if not (case.root / path).exists() and role in _FROM_HUB and path.count("/") == 1:
            yield skipped(subject, "is fetched from the hub", "name a local folder where there is no network")
            continue
        if not (case.root / path).exists():
            key = given.key(case.params)
            remedy = _REMEDIES.get(role, "restore it, or name another one in {key}").format(key=key)
            if is_placeholder(path):
                remedy = f"set {key} in params.yaml, then rlip dvc-yaml{case.option}: {remedy}"
            yield failed(subject, f"does not exist; needed by {given.needed_by}", remedy)
            continue
        found = list(guarded(subject, lambda given=given: _of(case, given)))  # type: ignore[misc]
        yield from dict.fromkeys(found)
        if not found:
            yield ok(subject, f"fits {given.needed_by}{_checksum(case.root / path)}")


def _of(case: Examination, given: ForeignInput) -> Iterator[Finding]:
    from rlip_assets.doctor import weights

    assert case.params is not None
    place = case.root / given.path
    if given.role in weights.BY_RECIPE or given.role in weights.ALONE:
        weights.refuse_damaged(place)
        yield from weights.compare(given, place, case.params)
    elif given.role.startswith("pseudo_labels/") and not count_scenes(place):
        yield failed(given.subject, "has no rows", "import the labels again")


def _checksum(path: Path) -> str:
    file = path if path.is_file() else path / "model.safetensors"
    return f", SHA-256 {sha256_file(file)[:16]}..." if file.is_file() else ""
