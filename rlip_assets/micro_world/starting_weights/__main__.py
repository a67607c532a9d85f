"""`python -m rlip_assets.micro_world.starting_weights`: make the shipped weights again."""

from __future__ import annotations

from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

WEIGHTS = Path(__file__).parent / "weights"


class Network(StrEnum):
    """The networks whose weights are shipped."""

    TEXT_ENCODER = "text_encoder"
    DETECTOR = "detector"
    CAPTIONER = "captioner"


def main(
    names: Annotated[list[Network] | None, typer.Argument(help="Which weights (default: all).")] = None,
    folder: Annotated[Path, typer.Option(help="Where to write them (default: the shipped ones).")] = WEIGHTS,
) -> None:
    """Train the named weights, one after the other."""
    for name in names or list(Network):
        module = import_module(f"rlip_assets.micro_world.starting_weights.train_{name}")
        getattr(module, f"make_{name}")(folder / name)


if __name__ == "__main__":
    typer.run(main)
