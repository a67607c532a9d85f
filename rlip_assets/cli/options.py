"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Profile = Annotated[str, typer.Option(help="Profile: micro, or a folder of profiles/.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or cuda:N.")]
