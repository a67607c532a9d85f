"""The application behind `rlip`.

Commands are imported on first use: a stage starts dozens of times in a run and should not import the others.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from rlip_assets.storage.errors import exit_with_sentence

COMMANDS = {
    "demo": "dagster_project.cli:demo",
    "study": "rlip_assets.cli.studies:study",
    "ui": "dagster_project.cli:ui",
    "sync-dagster": "dagster_project.cli:sync_dagster",
    "stage": "rlip_assets.cli.stages:stage",
    "stages": "rlip_assets.cli.stages:stages",
    "profile": "rlip_assets.cli.profile:profile",
    "dvc-yaml": "rlip_assets.cli.stages:dvc_yaml",
    "params-yaml": "rlip_assets.cli.stages:params_yaml",
    "source-digests": "rlip_assets.cli.stages:source_digests",
    "doctor": "rlip_assets.cli.doctor:doctor",
    "gc": "rlip_assets.cli.garbage:gc",
    "repair": "rlip_assets.cli.garbage:repair",
    "promote": "rlip_assets.cli.models:promote",
    "tracking": "rlip_assets.cli.tracking:tracking",
    "recipes": "rlip_assets.cli.recipes:recipes",
    "labels": "rlip_assets.cli.labels:labels",
    "predict": "rlip_assets.cli.predict:predict",
    "draw": "rlip_assets.cli.predict:draw",
    "package": "rlip_assets.cli.package:package",
    "predict-benchmark": "rlip_assets.cli.benchmark:predict_benchmark",
    "reproduce": "rlip_assets.cli.benchmark:reproduce",
    "evaluate": "rlip_assets.cli.evaluate:evaluate",
    "alignment": "rlip_assets.cli.alignment:alignment",
    "import-checkpoint": "rlip_assets.cli.models:import_checkpoint",
    "import-detector": "rlip_assets.cli.models:import_detector",
    "merge": "rlip_assets.cli.models:merge",
}
"""Command name -> module and name of its typer application or function.

Those that need Dagster live in a package above this one, which imports it only when one of them is called."""


INTERRUPTED = 130
"""Exit status that typer turns an interruption into, without a word."""


class LazyGroup(TyperGroup):
    """A group whose commands are imported on first use, in the order of `COMMANDS`."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        target = getattr(import_module(module), name)
        if not isinstance(target, typer.Typer):
            application = typer.Typer(add_completion=False, rich_markup_mode=None)
            application.command(cmd_name)(target)
            target = application
        command = typer.main.get_command(target)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the first sentence of every command's help, uncut."""
        commands = {name: self.get_command(ctx, name) for name in COMMANDS}
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_sentence(command.help or "")) for name, command in commands.items()])


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0].rstrip(".")


app = typer.Typer(cls=LazyGroup, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def rlip() -> None:
    """RLIPv2: relational language-image pre-training, from raw detection datasets to benchmark results."""


def run() -> None:
    """Run `rlip` in this process; an error that the user can act on is one sentence and exit status 1."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names of files may be no valid text
    with exit_with_sentence():
        try:
            app()
        except SystemExit as end:
            if end.code != INTERRUPTED:
                raise
            raise KeyboardInterrupt from None
