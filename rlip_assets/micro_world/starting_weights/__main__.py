"""`python -m rlip_assets.micro_world.starting_weights`: make the shipped weights again, all three or those named."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"


def _text_encoder(folder: Path) -> None:
    from rlip_assets.micro_world.starting_weights.text_encoder import make_text_encoder

    make_text_encoder(folder)


def _detector(folder: Path) -> None:
    from rlip_assets.micro_world.starting_weights.detector import make_detector

    make_detector(folder)


def _captioner(folder: Path) -> None:
    from rlip_assets.micro_world.starting_weights.captioner import make_captioner

    make_captioner(folder)


MAKERS: dict[str, Callable[[Path], None]] = {
    "text_encoder": _text_encoder,
    "detector": _detector,
    "captioner": _captioner,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the named weights, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m rlip_assets.micro_world.starting_weights", description=__doc__)
    parser.add_argument(
        "names", nargs="*", default=list(MAKERS), choices=list(MAKERS), help="which weights (default: all)"
    )
    parser.add_argument("--folder", type=Path, default=WEIGHTS, help="where to write them (default: the shipped ones)")
    options = parser.parse_args(arguments)
    for name in options.names:
        MAKERS[name](options.folder / name)


if __name__ == "__main__":
    main()
