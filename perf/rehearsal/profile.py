"""The profile `rehearsal`: a paper profile with the stand-ins as its roots and weights, cut down to one training of each kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from perf.rehearsal.doors import dvc, rlip
from perf.rehearsal.stand_ins import StandIns
from rlip_assets.lineage.datasets import BENCHMARKS
from rlip_assets.lineage.params.training import TrainingParams
from rlip_assets.lineage.profiles import PARAMS_FILE, PROJECT_ROOT, profile_names, profile_root
from rlip_assets.lineage.rehearsal import rehearsed
from rlip_assets.storage.files import write_text

NAME = "rehearsal"
IMPORTED = "rehearsal_imported"
"""The same with an R-Tagger and pseudo labels of COCO from elsewhere, and without the benchmarks, down to pre-training."""


def make(base: str, stand_ins: StandIns, limit: int, steps: int) -> Path:
    """Make the profile, or bring the one of an earlier run up to date; return its folder."""
    content = yaml.safe_load((profile_root(base) / PARAMS_FILE).read_text())
    return _written(NAME, base, rehearsed(with_stand_ins(content, stand_ins), limit, steps))


def make_imported(stand_ins: StandIns) -> Path:
    """Make the profile that takes R-Tagger and labels from elsewhere, from the finished profile; return its folder."""
    content = yaml.safe_load((profile_root(NAME) / PARAMS_FILE).read_text())
    return _written(IMPORTED, NAME, with_imports(content, stand_ins))


def with_imports(content: dict[str, Any], stand_ins: StandIns) -> dict[str, Any]:
    """Return the parameters of a rehearsal with an imported R-Tagger and imported labels, and without the benchmarks."""
    content["external"] |= {"r_tagger": str(stand_ins.tagger), "labels": {"coco": str(stand_ins.labels)}}
    content["sources"] |= dict.fromkeys(BENCHMARKS)
    content["training"]["finetune"], content["predictions"] = {}, {}
    return content


def _written(name: str, base: str, content: dict[str, Any]) -> Path:
    if name not in profile_names(PROJECT_ROOT):
        rlip("profile", "new", name, "--from", base)
    file = profile_root(name) / PARAMS_FILE
    write_text(file, yaml.safe_dump(content | {"profile": name}, sort_keys=False, width=120))
    dvc(file.parent, "config", "--local", "core.no_scm", "true")  # git ignores this profile, and DVC shall not
    for command in ("params-yaml", "dvc-yaml"):
        rlip(command, "--profile", name)
    return file.parent


def with_stand_ins(content: dict[str, Any], stand_ins: StandIns) -> dict[str, Any]:
    """Return the parameters of a paper profile with roots, weights and the trainings that are rehearsed."""
    for dataset, root in stand_ins.roots.items():
        if content["sources"][dataset]:
            content["sources"][dataset]["root"] = str(root)
    content["external"] |= {
        "detector": str(stand_ins.detector),
        "text_encoder": str(stand_ins.roberta),
        "captioner": str(stand_ins.blip),
    }
    training = content["training"]
    training["r_tagger"]["detector"] = str(stand_ins.tagger_detector)
    for stage, names in _first_of_each_kind(TrainingParams.model_validate(training)).items():
        training[stage] = {name: training[stage][name] for name in names}
    for choice in training["pretrain"].values():
        choice["detector"] = str(stand_ins.detector)
    content["predictions"] = {"released": {"checkpoint": str(stand_ins.imported), "benchmark": "hico_det"}}
    return content


def _first_of_each_kind(training: TrainingParams) -> dict[str, list[str]]:
    """Return the start of the fine-tunings, and the first fine-tuning from there on every benchmark, by stage."""
    here = {name: choice.resolve().benchmark for name, choice in training.finetune.items() if choice.start is None}
    first = {benchmark: name for name, benchmark in reversed(here.items())}
    return {
        "pretrain": [training.start.removeprefix("pretrain/")],
        "finetune": [name for name in here if name in first.values()],
    }


def finetuned(root: Path) -> Path:
    """Return the checkpoint of the first fine-tuning."""
    return next(path for path in sorted((root / "data/models/finetune").iterdir()) if path.is_dir())
