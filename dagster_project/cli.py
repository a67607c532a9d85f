"""The commands of `rlip` that need Dagster: `rlip_assets.cli` names them and imports this module when one is called."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from dagster_project.profile import PROFILE_VARIABLE
from rlip_assets.cli.options import Profile
from rlip_assets.doctor.fitting import refuse_profile_misfits
from rlip_assets.dvc.profile_folder import mend_pipeline
from rlip_assets.lineage.profiles import DEFAULT_PROFILE, PROJECT_ROOT, profile_root
from rlip_assets.storage.errors import InputError

TARGET = "dagster_project.location:active_location"


def prepare_environment(profile: str) -> None:
    """Name the profile and Dagster's home to this process and its children; ParameterError for an unknown profile."""
    refuse_profile_misfits(profile_root(profile))
    if sentence := mend_pipeline(profile_root(profile)):
        print(sentence, flush=True)
    os.environ[PROFILE_VARIABLE] = profile
    home = Path(os.environ.setdefault("DAGSTER_HOME", str(PROJECT_ROOT / "dagster_home")))
    if not home.is_absolute() or not home.is_dir():
        raise InputError(
            f"DAGSTER_HOME is {home}, which is not an existing absolute folder; unset it to use dagster_home"
        )


def demo(
    profile: Profile = DEFAULT_PROFILE,
    slots: Annotated[int, typer.Option(min=1, help="Stages that run side by side.")] = 2,
) -> None:
    """Bring the whole lineage up to date, as Dagster runs of DVC stages, and print the results."""
    prepare_environment(profile)
    from dagster import DagsterInstance

    from dagster_dvc import report_external, unreported
    from dagster_project.instance import follow_gpus
    from dagster_project.launcher import launch_changed
    from dagster_project.location import active_location
    from dagster_project.profile import active_profile
    from dagster_project.retention import sweep
    from rlip_assets.cli.summary import print_summary

    began = time.monotonic()

    def tell(line: str) -> None:
        elapsed = int(time.monotonic() - began)
        print(f"{elapsed // 60:3d}:{elapsed % 60:02d} {line}", flush=True)

    location = active_location()
    tell(f"comparing dvc.lock, the tree and Dagster in {location.root}")
    with DagsterInstance.get() as instance:
        follow_gpus(instance)
        if swept := sweep(instance, active_profile(), seconds=5.0):
            tell(swept)
        summary = launch_changed(location, TARGET, tell, slots)
        if reported := report_external(instance, location.project, location.translator):
            tell(f"{len(reported)} items that DVC made alone are reported to Dagster")
        missing = unreported(instance, location.project, location.translator) if reported else []
    summary.seconds = time.monotonic() - began
    print_summary(location.root, summary, len(missing))


def sync_dagster(profile: Profile = DEFAULT_PROFILE) -> None:
    """Report to Dagster what `dvc repro` or `dvc pull` did without it."""
    prepare_environment(profile)
    from dagster import DagsterInstance

    from dagster_dvc import report_external
    from dagster_project.location import active_location

    with DagsterInstance.get() as instance:
        location = active_location()
        reported = report_external(instance, location.project, location.translator)
    for item in reported:
        print(f"reported {item.address}")
    print(f"{len(reported)} external materialisations; Dagster now knows all of dvc.lock")


def ui(
    profile: Profile = DEFAULT_PROFILE,
    dagster_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of Dagster.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of MLflow.")] = 5000,
) -> None:
    """Start Dagster and MLflow on localhost, and print the addresses of comparisons."""
    prepare_environment(profile)
    from dagster import DagsterInstance

    from dagster_project.instance import end_dead_runs, follow_gpus
    from rlip_assets.cli.servers import serve

    with DagsterInstance.get() as instance:
        follow_gpus(instance)
        if dead := end_dead_runs(instance):
            print(f"{len(dead)} earlier runs were killed; they are marked as failed", flush=True)
    serve(profile, dagster_port, mlflow_port)
