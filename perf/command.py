"""The command line that all speed commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")]


def run_command(main: Callable[..., Any]) -> None:
    """Run `main` with the options that its signature declares; the docstring of its module is the help text."""
    application = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    application.command(help=sys.modules[main.__module__].__doc__)(main)
    application()


def write_figures(file: Path | None, figures: Any) -> None:
    """Write figures as JSON; nothing without a file."""
    if file is not None:
        file.write_text(json.dumps(figures, indent=2) + "\n")
