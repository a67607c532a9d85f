"""Commands about single stages and the files that describe them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from rlip_assets.cli.options import Profile
from rlip_assets.lineage.profiles import DEFAULT_PROFILE, PARAMS_FILE, profile_root, relative_project
from rlip_assets.storage.errors import ParameterError

if TYPE_CHECKING:
    from rlip_assets.lineage.context import StageLog
    from rlip_assets.lineage.stage_run import StageRun


def stage(
    name: Annotated[str, typer.Argument(help="Name of the stage.")],
    partition: Annotated[str | None, typer.Option(help="Bucket, dataset or recipe, where the stage has such.")] = None,
    profile: Annotated[str | None, typer.Option(help="Profile; by default the one of the current folder.")] = None,
) -> None:
    """Run one stage. DVC calls this; call `dvc repro --single-item STAGE@PARTITION` to have the result recorded."""
    from rlip_assets.doctor.fitting import refuse_misfits
    from rlip_assets.dvc.profile_folder import check_pipeline
    from rlip_assets.lineage.log import open_stage_log
    from rlip_assets.lineage.params import load_params
    from rlip_assets.lineage.registry import build_registry
    from rlip_assets.lineage.runner import run_stage
    from rlip_assets.lineage.torchrun import launch_command
    from rlip_assets.lineage.watchdog import end_with_requester

    signal.signal(signal.SIGTERM, _exit_on_signal)
    end_with_requester()
    root = Path.cwd() if profile is None else profile_root(profile)
    params = load_params(root / PARAMS_FILE)
    os.chdir(root)
    registry = build_registry(params, relative_project(root))
    check_pipeline(root, registry)
    refuse_misfits(root, params, registry)
    arguments = ["stage", name, *(["--partition", partition] if partition else [])]
    if command := launch_command(registry.item(name, partition).processes, arguments):
        os.execv(command[0], command)
    run_stage(registry, params, root, name, partition, partial(open_stage_log, track=_track))


def _track(run: StageRun, say: Callable[[str], None]) -> AbstractContextManager[StageLog]:
    """Open the run in the tracking store; only tracked stages import what that takes."""
    from rlip_assets.tracking.stage_log import track_stage

    return track_stage(run, say)


def _exit_on_signal(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def stages(profile: Profile = DEFAULT_PROFILE) -> None:
    """List the stages and their partitions."""
    from rlip_assets.lineage.registry import load_registry

    for spec in load_registry(profile_root(profile)).specs.values():
        print(f"{spec.name}: {spec.description}")
        if spec.partitions:
            print(f"    --partition {' | '.join(spec.partitions)}")


def dvc_yaml(
    profile: Profile = DEFAULT_PROFILE,
    check: Annotated[bool, typer.Option(help="Only say whether the file is current.")] = False,
) -> None:
    """Write a profile's dvc.yaml from the registry of stages, once its weights fit their networks."""
    from rlip_assets.doctor.fitting import refuse_profile_misfits
    from rlip_assets.dvc.profile_folder import complete_folder, current_pipeline

    root = profile_root(profile)
    refuse_profile_misfits(root)
    _write_or_check(root / "dvc.yaml", current_pipeline(root), check)
    for file in [] if check or profile == DEFAULT_PROFILE else complete_folder(root):
        print(f"wrote {file}, without which DVC takes the folder for a part of the project around it")


def params_yaml(
    profile: Profile = DEFAULT_PROFILE,
    check: Annotated[bool, typer.Option(help="Only say whether the file is current.")] = False,
) -> None:
    """Spell out every parameter of a profile in its params.yaml, keeping the values it has; DVC needs them written."""
    from rlip_assets.lineage.params_yaml import render_params_yaml

    path = profile_root(profile) / PARAMS_FILE
    _write_or_check(path, render_params_yaml(path), check)


def source_digests(
    renew: Annotated[bool, typer.Option(help="Record the current digests.")] = False,
) -> None:
    """Compare the source that each stage imports with what was recorded when its version was declared."""
    from rlip_assets.lineage.source_digests import changed_stages, renew_digests

    if renew:
        print(f"renewed: {', '.join(renew_digests()) or 'nothing to renew'}")
        return
    if changed := changed_stages():
        raise ParameterError(
            f"The source of {', '.join(changed)} changed; raise the version in rlip_assets/lineage/versions.yaml where results may "
            "change, then record the source with `rlip source-digests --renew`"
        )
    print("the source of every stage is the recorded one")


def _write_or_check(path: Path, text: str, check: bool) -> None:
    from rlip_assets.storage.files import write_text

    current = path.read_text() if path.exists() else None
    if current == text:
        print(f"{path} is current")
    elif check:
        raise ParameterError(f"{path} is not current; write it with the same command without --check")
    elif path.is_symlink():
        raise ParameterError(f"{path} is a symbolic link, which would be replaced by a file: write its target by hand")
    else:
        write_text(path, text)
        print(f"wrote {path}")
