"""`rlip study`: run a study and report it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from rlip_assets.dvc.repair import repair
from rlip_assets.storage.errors import InputError

FOLDER = "reports/studies"


def study(
    name: Annotated[str | None, typer.Argument(help="Name of a study; none lists them.")] = None,
    plan: Annotated[bool, typer.Option(help="Write the profiles and say what would run, but run nothing.")] = False,
) -> None:
    """Run a study: its settings with every seed through DVC, then figures, plots and verdicts in reports/studies."""
    from rlip_assets.lineage.profiles import PROJECT_ROOT
    from rlip_assets.report.studies import definitions, study_profiles

    if name is None:
        for each in definitions.studies().values():
            print(f"{each.name:18} {len(each.arms)} x {each.seeds} trainings of {each.steps} steps: {each.title}")
        return
    chosen = definitions.study(name)
    made = study_profiles.study_profiles(chosen)
    for profile in made:
        study_profiles.write_profile(profile, chosen)
        print(f"{profile.root.relative_to(PROJECT_ROOT)}: {', '.join(profile.targets)}", flush=True)
    if plan:
        return
    for profile in made:
        _reproduce(profile.root, profile.targets)
    from rlip_assets.report.studies.study_report import write_results

    print(write_results(chosen, made, PROJECT_ROOT / FOLDER))
    print(f"All studies that have run: {FOLDER}/index.html")


def _reproduce(root: Path, targets: list[str]) -> None:
    """Run `dvc repro` on the targets; current stages and those in the run cache do not run."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    if not (root / "data/raw").exists():
        # The run cache could give back the receipt of a world whose images are gone.
        subprocess.run(
            [sys.executable, "-m", "rlip_assets.cli", "stage", "micro_world"], cwd=root, env=environment, check=True
        )
    for sentence in repair(root):
        print(sentence)
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", *targets]
    done = subprocess.run(command, cwd=root, env=environment, check=False)
    if done.returncode:
        raise InputError(
            f"`dvc repro` in {root} ended with status {done.returncode}; the lines above say why; the same command resumes"
        )
