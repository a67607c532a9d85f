"""Profiles: folders with their own parameters, pipeline and outputs.

The project's root is the profile `micro`; every other profile is a folder `profiles/NAME`. Profiles never share outputs.
"""

from __future__ import annotations

import os
from pathlib import Path

from rlip_assets.storage.errors import ParameterError

DEFAULT_PROFILE = "micro"
PARAMS_FILE = "params.yaml"
PROJECT_ROOT = Path(__file__).resolve().parents[2]


def profile_root(name: str, project: Path = PROJECT_ROOT) -> Path:
    """Return the root folder of the profile `name`.

    Raises:
        ParameterError: there is no such profile; the message names those there are.
    """
    root = project if name == DEFAULT_PROFILE else project / "profiles" / name
    if name not in profile_names(project):
        known = ", ".join(profile_names(project))
        raise ParameterError(
            f"There is no profile '{name}'; the profiles are {known} (a profile is a folder profiles/NAME with a {PARAMS_FILE})"
        )
    return root


def profile_names(project: Path = PROJECT_ROOT) -> list[str]:
    """Return all profiles of the project, the default one first."""
    return [DEFAULT_PROFILE, *sorted(file.parent.name for file in (project / "profiles").glob(f"*/{PARAMS_FILE}"))]


def profile_name(root: Path, project: Path = PROJECT_ROOT) -> str:
    """Return the name of the profile whose root folder is `root`."""
    return DEFAULT_PROFILE if root.resolve() == project.resolve() else root.resolve().name


def profile_option(root: Path, project: Path = PROJECT_ROOT) -> str:
    """Return the option, with a space before it, that makes a `rlip` command be about the profile at `root`; "" for the default one."""
    name = profile_name(root, project)
    return "" if name == DEFAULT_PROFILE else f" --profile {name}"


def project_of(root: Path) -> Path:
    """Return the root of the project that the profile at `root` belongs to."""
    return root.parents[1] if root.parent.name == "profiles" else root


def relative_project(root: Path, project: Path = PROJECT_ROOT) -> str:
    """POSIX path from a profile's root to the project's root, `.` for the default profile."""
    return Path(os.path.relpath(project.resolve(), root.resolve())).as_posix()
