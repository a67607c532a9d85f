"""Weights, tokenizers and other inputs that no stage makes: there, undamaged, and of the sizes that their stages need.

Shapes are compared by the headers of files and networks without memory; a digest that a file carries is verified.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from rlip_assets.datasets.scenes import count_scenes
from rlip_assets.doctor.examination import Examination
from rlip_assets.doctor.finding import Finding, failed, guarded, ok, skipped
from rlip_assets.lineage.layout import is_folder
from rlip_assets.lineage.params.placeholders import is_placeholder
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.lineage.spec import StageItem
from rlip_assets.storage.files import sha256_file

_REMEDIES = {
    "detector": "rlip import-detector FILE.pth FOLDER, then name the folder in external.detector",
    "text_encoder": "fetch roberta-base (model.safetensors, tokenizer.json) and name its folder in external.text_encoder",
    "captioner": "fetch a BLIP captioner and name its folder",
    "image_list": "fetch the released few-shot split, or train on a share instead",
}


def check(case: Examination) -> Iterator[Finding]:
    """Look at each input of the pipeline that no stage writes, once for each network that reads it."""
    for (role, path), readers in _starts(case).items():
        subject, names = f"{role} {path}", _names(readers)
        if not (case.root / path).exists() and role in ("captioner", "tagging_model") and path.count("/") == 1:
            yield skipped(subject, "is fetched from the hub", "name a local folder where there is no network")
            continue
        if not (case.root / path).exists():
            remedy = _REMEDIES.get(role, "restore it, or name another one in params.yaml")
            if is_placeholder(path):
                remedy = f"set it in params.yaml, then rlip dvc-yaml{case.option}: {remedy}"
            yield failed(subject, f"does not exist; {names} needs it", remedy)
            continue
        found = list(guarded(subject, lambda role=role, path=path, readers=readers: _of(case, role, path, readers)))  # type: ignore[misc]
        yield from dict.fromkeys(found)
        if not found:
            yield ok(subject, f"fits {names}{_checksum(case.root / path)}")


def _starts(case: Examination) -> dict[tuple[str, str], list[StageItem]]:
    """(role, path) of each input from outside -> the runs that read it."""
    found: dict[tuple[str, str], list[StageItem]] = defaultdict(list)
    if case.stages is None or case.params is None:
        return found
    for item in case.stages.items():
        for role, path in item.inputs.items():
            if not case.stages.writers(path):
                found[role, path].append(item)
        if item.stage == "captions" and (model := case.params.captions.model) and not is_folder(model):
            found["captioner", model].append(item)
        if item.stage == "pseudo_labels" and (model := case.params.tagging.model) and not is_folder(model):
            found["tagging_model", model].append(item)
    return found


def _names(readers: list[StageItem]) -> str:
    stages = list(dict.fromkeys(item.stage for item in readers))
    return readers[0].address if len(readers) == 1 else ", ".join(stages)


def _of(case: Examination, role: str, path: str, readers: list[StageItem]) -> Iterator[Finding]:
    from rlip_assets.doctor import weights

    subject, folder, recipes = f"{role} {path}", case.root / path, list[Recipe]()
    for recipe in filter(None, map(case.recipe, readers)):
        if all((recipe.model, recipe.model_changes) != (each.model, each.model_changes) for each in recipes):
            recipes.append(recipe)
    if role in weights.BY_RECIPE and recipes:
        for recipe in recipes:
            yield from weights.BY_RECIPE[role](subject, folder, recipe)
    elif role in weights.ALONE:
        yield from weights.ALONE[role](subject, folder)
    elif role.startswith("pseudo_labels/") and not count_scenes(folder):
        yield failed(subject, "has no rows", "import the labels again")


def _checksum(path: Path) -> str:
    file = path if path.is_file() else path / "model.safetensors"
    return f", SHA-256 {sha256_file(file)[:16]}..." if file.is_file() else ""
