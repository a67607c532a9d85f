"""The profiles of a study: made from the base profile and the same registry of stages, and thrown away without loss.

A profile shares the base's raw data (a link), its DVC cache, run cache included, and the entries of its `dvc.lock`: captions, labels, the
R-Tagger and the start of fine-tunings that the base has made are fetched and not made again. A study adds trainings, one per arm and seed.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlip_assets.dvc.cache import objects_folder
from rlip_assets.dvc.inheritance import inherit_results
from rlip_assets.dvc.profile_folder import move_paths, write_folder
from rlip_assets.lineage.params import Params, load_params, validate_params
from rlip_assets.lineage.profiles import PARAMS_FILE, PROJECT_ROOT, profile_root, relative_project
from rlip_assets.lineage.registry import build_registry
from rlip_assets.report.studies.definitions import Arm, Stage, Study
from rlip_assets.storage.files import digest_json


@dataclass(frozen=True)
class StudyProfile:
    """One profile of a study and the arms that it runs."""

    root: Path
    params: Params
    arms: tuple[str, ...]
    runs: Mapping[str, tuple[str, int]]
    """Training -> its arm and the number of its seed."""
    stage: Stage = "pretrain"

    @property
    def name(self) -> str:
        """The profile's name, as commands take it."""
        return self.root.name

    @property
    def targets(self) -> list[str]:
        """The DVC stages whose results the study needs."""
        return [f"benchmark@{self.stage}-{run}" for run in self.runs]


def study_profiles(study: Study, project: Path = PROJECT_ROOT) -> list[StudyProfile]:
    """The profiles of a study, one for each set of parameters outside training.

    Raises:
        ParameterError: an arm names an unknown recipe, field or parameter.
    """
    base_root = profile_root(study.base, project)
    base = load_params(base_root / PARAMS_FILE).model_dump(mode="json")
    move_paths(base, base_root, project / "profiles" / study.name)
    groups: dict[str, list[str]] = {}
    for name, arm in study.arms.items():
        groups.setdefault(digest_json(arm.params), []).append(name)
    found = []
    for arms in groups.values():
        profile = f"study_{study.name}" + (f"_{arms[0]}" if len(groups) > 1 else "")
        runs = {run_name(arm, seed): (arm, seed) for arm in arms for seed in range(study.seeds)}
        params = _params(study, base, profile, study.arms[arms[0]].params, runs)
        found.append(StudyProfile(project / "profiles" / profile, params, tuple(arms), runs, study.stage))
    return found


def run_name(arm: str, seed: int) -> str:
    """The training of an arm: its own name for the first seed, as in every profile."""
    return arm if seed == 0 else f"{arm}-seed{seed}"


def _params(
    study: Study,
    base: Mapping[str, Any],
    profile: str,
    changes: Mapping[str, Mapping[str, Any]],
    runs: Mapping[str, tuple[str, int]],
) -> Params:
    content = copy.deepcopy(dict(base))
    for section, values in changes.items():
        content[section] = {**content.get(section, {}), **values}
    training = content["training"]
    training["finetune"] = {}
    training[study.stage] = {run: _choice(study, study.arms[arm], seed) for run, (arm, seed) in runs.items()}
    if study.evaluate_every:
        training["checkpoints"] = {**training["checkpoints"], "evaluate_every": study.evaluate_every}
    return validate_params({**content, "profile": profile}, f"study {study.name}")


def _choice(study: Study, arm: Arm, seed: int) -> dict[str, Any]:
    changes = {"steps": study.steps, **study.changes, **arm.changes}
    return {"recipe": arm.recipe, "changes": changes, "seed": seed or None}


def write_profile(profile: StudyProfile, study: Study, project: Path = PROJECT_ROOT) -> None:
    """Write the folder of a profile: parameters, pipeline, DVC's settings, what is known of the base's results, a link to its raw data."""
    root, base = profile.root, profile_root(study.base, project)
    write_folder(root, profile.params, project, shared_cache=objects_folder(base).parents[1])
    inherit_results(base, root, build_registry(profile.params, relative_project(root, project)), project)
    raw = root / "data/raw"
    if (base / "data/raw").is_dir() and (raw.is_symlink() or not raw.exists()):
        raw.parent.mkdir(parents=True, exist_ok=True)
        raw.unlink(missing_ok=True)
        raw.symlink_to(os.path.relpath(base / "data/raw", raw.parent))
