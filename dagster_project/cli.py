"""The commands of `rlip` that need Dagster; `rlip` starts this module as a process of its own, for its package knows no orchestrator."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

from dagster_project.profile import PROFILE_VARIABLE
from rlip_assets.lineage.profiles import DEFAULT_PROFILE, PROJECT_ROOT, profile_root
from rlip_assets.storage.errors import InputError, exit_with_sentence

TARGET = "dagster_project.location:active_location"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; an error that the user can act on is one sentence and exit status 1."""
    parser = argparse.ArgumentParser(prog="rlip")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("demo", "sync-dagster", "ui"):
        command = commands.add_parser(name)
        command.add_argument("--profile", default=DEFAULT_PROFILE)
        if name == "demo":
            command.add_argument("--slots", type=int, default=2)
        if name == "ui":
            command.add_argument("--dagster-port", type=int, default=3000)
            command.add_argument("--mlflow-port", type=int, default=5000)
    chosen = parser.parse_args(arguments)
    with exit_with_sentence():
        prepare_environment(chosen.profile)
        if chosen.command == "demo":
            demo(chosen.slots)
        elif chosen.command == "sync-dagster":
            synchronise()
        else:
            from dagster_project.servers import serve

            serve(chosen.dagster_port, chosen.mlflow_port)


def prepare_environment(profile: str) -> None:
    """Name the profile and Dagster's home to this process and its children; ParameterError for an unknown profile."""
    profile_root(profile)
    os.environ[PROFILE_VARIABLE] = profile
    home = Path(os.environ.setdefault("DAGSTER_HOME", str(PROJECT_ROOT / "dagster_home")))
    if not home.is_absolute() or not home.is_dir():
        raise InputError(
            f"DAGSTER_HOME is {home}, which is not an existing absolute folder; unset it to use dagster_home"
        )


def demo(slots: int) -> None:
    """Bring the lineage of the profile up to date and show what came out."""
    from dagster import DagsterInstance

    from dagster_project.lineage import bring_up_to_date
    from dagster_project.location import active_location
    from dagster_project.summary import print_summary
    from dagster_project.synchronise import report_external, unreported

    began = time.monotonic()

    def tell(line: str) -> None:
        elapsed = int(time.monotonic() - began)
        print(f"{elapsed // 60:3d}:{elapsed % 60:02d} {line}", flush=True)

    location = active_location()
    tell(f"comparing dvc.lock, the tree and Dagster in {location.root}")
    with DagsterInstance.get() as instance:
        summary = bring_up_to_date(location, TARGET, tell, slots)
        reported = report_external(instance, location)
        if reported:
            tell(f"{len(reported)} items that DVC had made without Dagster are reported to it")
        missing = unreported(instance, location)
    summary.seconds = time.monotonic() - began
    print_summary(location, summary, missing)


def synchronise() -> None:
    """Report to Dagster what DVC did without it."""
    from dagster import DagsterInstance

    from dagster_project.location import active_location
    from dagster_project.synchronise import report_external

    with DagsterInstance.get() as instance:
        reported = report_external(instance, active_location())
    for item in reported:
        print(f"reported {item.address}")
    print(f"{len(reported)} external materialisations; Dagster now knows all of dvc.lock")


if __name__ == "__main__":
    main()
