"""`python -m rlip_assets.micro_world.starting_weights`: make the shipped weights again."""

from __future__ import annotations

import os
import sys
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
    seconds: Annotated[
        float | None,
        typer.Option(help="Time for each training, its schedule compressed to fit (default: all steps).", min=1),
    ] = None,
    further: Annotated[
        bool, typer.Option("--further", help="Train the detector and the captioner that are there on.")
    ] = False,
    processes: Annotated[
        int,
        typer.Option(help="Processes that share each step, one per GPU or core, each with a batch of its own.", min=1),
    ] = 1,
) -> None:
    """Train the named weights, one after the other, on the GPU where there is one.

    An interrupted training goes on where it was, from `NAME.training.pt` beside its folder.
    """
    from rlip_assets.lineage.torchrun import launch_command, process_index

    if further and Network.TEXT_ENCODER in (names or ()):
        raise typer.BadParameter("the text encoder is always trained whole; leave it out with --further")
    names = names or [network for network in Network if not (further and network is Network.TEXT_ENCODER)]
    shared = processes if set(names) != {Network.TEXT_ENCODER} else 1  # others would be waited for, and never come
    if command := launch_command(shared, sys.argv[1:], module="rlip_assets.micro_world.starting_weights"):
        os.execv(command[0], command)
    from rlip_assets.micro_world.starting_weights.fit import Machine

    for name in names:
        if name is Network.TEXT_ENCODER and process_index() > 0:
            continue  # it is trained by one process
        module = import_module(f"rlip_assets.micro_world.starting_weights.train_{name}")
        state = folder / f"{name}.training.pt"
        options = {"further": True} if further else {}
        getattr(module, f"make_{name}")(folder / name, Machine.here(state, seconds), **options)
        if process_index() == 0:
            state.unlink(missing_ok=True)


if __name__ == "__main__":
    typer.run(main)
