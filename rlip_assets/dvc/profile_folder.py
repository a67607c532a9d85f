"""The folder of a profile: parameters, pipeline, and settings that make it a DVC project of its own.

Without those a folder below `profiles/` belongs to the DVC project at the root, which looks into no profile: DVC calls it "dvc-ignored".
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

from rlip_assets.dvc.pipeline import HEADER as PIPELINE_HEADER
from rlip_assets.dvc.pipeline import render_dvc_yaml
from rlip_assets.lineage.layout import is_folder
from rlip_assets.lineage.params import Params, load_params, validate_params
from rlip_assets.lineage.params.sources import WORLD_FOLDER
from rlip_assets.lineage.params_yaml import HEADER
from rlip_assets.lineage.profiles import (
    PARAMS_FILE,
    PROJECT_ROOT,
    profile_names,
    profile_option,
    profile_root,
    relative_project,
)
from rlip_assets.lineage.registry import build_registry, load_registry
from rlip_assets.lineage.rehearsal import rehearsed
from rlip_assets.lineage.spec import Registry
from rlip_assets.lineage.starts import trained_here
from rlip_assets.storage.errors import ParameterError
from rlip_assets.storage.files import write_text

PIPELINE_FILE = "dvc.yaml"


def complete_folder(root: Path, project: Path = PROJECT_ROOT, *, shared_cache: Path | None = None) -> list[Path]:
    """Write the settings of DVC that a profile lacks; return the files written.

    Args:
        shared_cache: DVC cache of another project to use instead of the folder's own, or of the one that it used until now.
    """
    config = (PROJECT_ROOT / ".dvc/config").read_text(encoding="utf-8")
    if shared_cache is not None or not (project / ".git").exists():
        config = config.replace("[core]\n", "[core]\n    no_scm = true\n")
    if shared_cache is not None:
        config = config.replace("[cache]\n", f'[cache]\n    dir = "{os.path.relpath(shared_cache, root / ".dvc")}"\n')
    ignored = [
        line for line in (PROJECT_ROOT / ".dvcignore").read_text(encoding="utf-8").splitlines() if line != "profiles"
    ]
    wanted = {root / ".dvc/config": config, root / ".dvcignore": "\n".join(ignored) + "\n"}
    wanted[root / ".dvc/.gitignore"] = (PROJECT_ROOT / ".dvc/.gitignore").read_text(encoding="utf-8")
    written = [path for path in wanted if not path.exists() or (shared_cache and path.name == "config")]
    for path in written:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, wanted[path])
    return written


def current_pipeline(root: Path, project: Path = PROJECT_ROOT) -> str:
    """Return the text that a profile's `dvc.yaml` has to have."""
    return render_dvc_yaml(load_registry(root), relative_project(root, project))


def mend_pipeline(root: Path) -> str | None:
    """Write a profile's `dvc.yaml` again where `params.yaml` asks for another one; say so in a sentence, None where it is current."""
    text, file = current_pipeline(root), root / PIPELINE_FILE
    if file.is_symlink() or (file.is_file() and file.read_text(encoding="utf-8") == text):
        return None
    write_text(file, text)
    return f"{file} was not the one that {PARAMS_FILE} asks for: written again"


def check_pipeline(root: Path, registry: Registry) -> None:
    """Refuse to work by a `dvc.yaml` that is older than `params.yaml`: DVC would record other inputs than those that are read.

    Raises:
        ParameterError: the file was written by `rlip dvc-yaml`, and would be another one now.
    """
    file = root / PIPELINE_FILE
    if not file.is_file():
        return
    text = file.read_text(encoding="utf-8")
    if text.startswith(PIPELINE_HEADER) and text != render_dvc_yaml(registry, relative_project(root)):
        raise ParameterError(
            f"{file} is not the one that {PARAMS_FILE} asks for: run `rlip dvc-yaml{profile_option(root)}`, then the same command again"
        )


def write_folder(root: Path, params: Params, project: Path = PROJECT_ROOT, *, shared_cache: Path | None = None) -> None:
    """Write a profile's folder: parameters, pipeline, DVC's settings where they are not there yet."""
    root.mkdir(parents=True, exist_ok=True)
    write_text(root / PARAMS_FILE, HEADER + yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False, width=120))
    registry = build_registry(params, relative_project(root, project))
    write_text(root / PIPELINE_FILE, render_dvc_yaml(registry, relative_project(root, project)))
    complete_folder(root, project, shared_cache=shared_cache)


def new_profile(
    name: str, base: str, project: Path = PROJECT_ROOT, *, rehearsal: tuple[int, int] | None = None
) -> Path:
    """Make the profile `name` with the parameters of `base`; return its folder.

    Args:
        rehearsal: images and steps of a rehearsal that it shall be.

    Raises:
        ParameterError: a name that cannot be one, or is taken; an unknown base.
    """
    root, source = project / "profiles" / name, profile_root(base, project)
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or name.startswith("study_"):
        raise ParameterError(
            f"{name!r} cannot be a profile's name: use lower-case letters, digits and _, and not study_ at the start"
        )
    if name in profile_names(project) or root.exists():
        raise ParameterError(f"{root} is there already; choose another name, or change its {PARAMS_FILE}")
    content = load_params(source / PARAMS_FILE).model_dump(mode="json")
    content["profile"] = name
    move_paths(content, source, root)
    if rehearsal:
        content = rehearsed(content, *rehearsal)
    write_folder(root, validate_params(content, f"{PARAMS_FILE} of {base}"), project)
    return root


def move_paths(content: dict[str, Any], source: Path, root: Path) -> None:
    """Let paths that are relative to the folder `source` mean the same from `root`."""

    def moved(path: str) -> str:
        return path if "://" in path or Path(path).is_absolute() else os.path.relpath(source / path, root)

    own = content["sources"]["own"]
    roots = {name: each for name, each in content["sources"].items() if name != "own" and each}
    for name, each in (*roots.items(), *own.items()):
        if each["root"] != f"{WORLD_FOLDER}/{name}":
            each["root"] = moved(each["root"])
    external, training = content["external"], content["training"]
    external["labels"] = {name: moved(path) for name, path in external["labels"].items()}
    for key, path in external.items():
        if isinstance(path, str):
            external[key] = moved(path)
    for section in ("detections", "captions", "tagging"):
        if is_folder(model := content[section].get("model") or ""):
            content[section]["model"] = moved(model)
    for choice in (training["r_tagger"], *training["pretrain"].values()):
        if choice.get("detector"):
            choice["detector"] = moved(choice["detector"])
    for choice in (training, *training["finetune"].values()):
        if choice.get("start") and not trained_here(choice["start"]):
            choice["start"] = moved(choice["start"])
