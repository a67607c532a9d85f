"""Commands about registered models."""

from __future__ import annotations

from typing import Annotated

import typer

from rlip_assets.cli.stages import Profile
from rlip_assets.profiles import DEFAULT_PROFILE, profile_root


def promote(
    model: Annotated[str, typer.Argument(help="Registered model, r_tagger for instance.")],
    version: Annotated[str | None, typer.Option(help="Version; the newest by default.")] = None,
    profile: Profile = DEFAULT_PROFILE,
) -> None:
    """Promote a registered model. A promoted R-Tagger makes Dagster tag again what another one has tagged."""
    from rlip_assets.promotion import promote as promote_version

    record = promote_version(profile_root(profile), model, version)
    print(f"{record.model} version {record.version} is promoted (hash {record.data_version})")
