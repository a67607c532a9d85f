"""`rlip doctor`: what would stop a profile later."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import Annotated

import typer

from rlip_assets.cli.options import Profile
from rlip_assets.lineage.profiles import DEFAULT_PROFILE, profile_root


def doctor(
    profile: Profile = DEFAULT_PROFILE,
    sample: Annotated[int, typer.Option(min=0, help="Images per split that are decoded and measured.")] = 50,
    thorough: Annotated[bool, typer.Option(help="Read every row of annotation files of any size.")] = False,
) -> None:
    """Find everything that would stop a profile later: parameters, files, images, weights, disk, GPU, packages, services."""
    from rich.console import Console

    from rlip_assets.doctor.examination import Examination
    from rlip_assets.doctor.finding import Level
    from rlip_assets.doctor.registry import examine
    from rlip_assets.doctor.table import show

    case = Examination(profile_root(profile), sample, thorough)
    screen = Console(stderr=True)
    with screen.status("") if screen.is_terminal else nullcontext() as status:
        rows = list(examine(case, lambda name: status.update(f"checking {name}") if status else None))
    show(rows, Console())
    sys.exit(int(any(row.finding.level is Level.FAILED for row in rows)))
