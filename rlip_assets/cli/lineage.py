"""Commands that need Dagster: each becomes the process of `dagster_project.cli`, which this package does not import."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from rlip_assets.cli.stages import Profile
from rlip_assets.lineage.profiles import DEFAULT_PROFILE


def demo(
    profile: Profile = DEFAULT_PROFILE,
    slots: Annotated[int, typer.Option(min=1, help="Stages that run side by side.")] = 2,
) -> None:
    """Bring the whole lineage up to date, as Dagster runs of DVC stages, and print the results."""
    _become("demo", "--profile", profile, "--slots", str(slots))


def sync_dagster(profile: Profile = DEFAULT_PROFILE) -> None:
    """Report to Dagster what `dvc repro` or `dvc pull` did without it."""
    _become("sync-dagster", "--profile", profile)


def ui(
    profile: Profile = DEFAULT_PROFILE,
    dagster_port: Annotated[int, typer.Option(help="Port of Dagster.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow.")] = 5000,
) -> None:
    """Start Dagster and MLflow on localhost."""
    _become("ui", "--profile", profile, "--dagster-port", str(dagster_port), "--mlflow-port", str(mlflow_port))


def _become(*arguments: str) -> None:
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "dagster_project.cli", *arguments])
