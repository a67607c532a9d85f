"""Weights, tokenizers and other inputs that no stage makes: there, undamaged, and of the sizes that their stages need.

Shapes are compared by the headers of files and networks without memory; a digest that a file carries is verified.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlip_assets.doctor.examination import Examination
from rlip_assets.doctor.finding import Finding, failed, guarded, ok
from rlip_assets.lineage.spec import StageItem
from rlip_assets.storage.files import sha256_file


@dataclass(frozen=True)
class _Start:
    """An input from outside, and one run that reads it."""

    role: str
    path: Path
    item: StageItem

    @property
    def subject(self) -> str:
        return f"{self.role} {self.path}"


def check(case: Examination) -> Iterator[Finding]:
    """Look at each input of the pipeline that no stage writes."""
    seen: set[tuple[str, str]] = set()
    for start in _starts(case):
        if not start.path.exists():
            if (start.role, str(start.path)) not in seen:
                seen.add((start.role, str(start.path)))
                yield failed(start.subject, f"does not exist; {start.item.address} reads it", _remedy(start))
            continue
        key = (start.subject, _needs(case, start))
        if key not in seen:
            seen.add(key)
            yield from guarded(start.subject, lambda start=start: _of(case, start))  # type: ignore[misc]


def _starts(case: Examination) -> Iterator[_Start]:
    if case.stages is None or case.params is None:
        return
    for item in case.stages.items():
        for role, path in item.inputs.items():
            if not case.stages.writers(path):
                yield _Start(role, case.root / path, item)
    if model := case.params.captions.model:
        item = next((item for item in case.stages.items() if item.stage == "captions"), None)
        if item is not None and (case.root / model).exists():
            yield _Start("captioner", case.root / model, item)


def _remedy(start: _Start) -> str:
    remedies = {
        "detector": "rlip import-detector FILE.pth FOLDER, then name the folder in external.detector",
        "text_encoder": "fetch roberta-base (model.safetensors, tokenizer.json) and name its folder in external.text_encoder",
        "captioner": "fetch a BLIP captioner and name its folder",
        "image_list": "fetch the released few-shot split, or use a share instead",
    }
    return remedies.get(start.role, "restore it, or name another one in params.yaml")


def _needs(case: Examination, start: _Start) -> str:
    """What tells the demands of one reader from those of another: the network's sizes."""
    recipe = case.recipe(start.item)
    return f"{recipe.model} {sorted(recipe.model_changes.items())}" if recipe else start.item.stage


def _of(case: Examination, start: _Start) -> Iterator[Finding]:
    from rlip_assets.doctor import weights

    recipe, before = case.recipe(start.item), False
    looks = {
        "detector": lambda: weights.detector(start.path, recipe),
        "text_encoder": lambda: weights.text_encoder(start.path, recipe),
        "checkpoint": lambda: weights.checkpoint(start.path, recipe),
        "r_tagger": lambda: weights.tagger(start.path),
        "captioner": lambda: weights.captioner(start.path),
    }
    for finding in looks[start.role]() if start.role in looks else ():
        before = True
        yield finding
    if not before:
        yield ok(start.subject, f"fits {start.item.address}{_checksum(start.path)}")


def _checksum(path: Path) -> str:
    file = path if path.is_file() else path / "model.safetensors"
    return f", SHA-256 {sha256_file(file)[:16]}..." if file.is_file() else ""
