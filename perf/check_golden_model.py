"""Check the network against recorded behaviour of the reference networks.

    python -m perf.check_golden_model DIR [CASE ...]

DIR holds `<case>.npz` files, `weights_rule.py` and `check.py` (see `tests/golden/model/README.md`). Each case is rebuilt from
its description, filled with the rule's weights, run for evaluation, post-processing and one training step, and compared.
Prints the largest difference of every quantity; exits with 1 when one is past its tolerance.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from perf.command import run_command
from perf.golden_model import load_module, recompute


def check_cases(folder: Path, cases: Sequence[str] = ()) -> int:
    """Compare the cases of a folder (all by default) and print how they agree; return the exit status."""
    rule, check = (load_module(folder / name) for name in ("weights_rule.py", "check.py"))
    files = [folder / f"{name}.npz" for name in cases] or sorted(folder.glob("*.npz"))
    if not files:
        print(f"no .npz case in {folder}", file=sys.stderr)
        return 2
    failed = []
    for file in files:
        start = time.perf_counter()
        report = check.check(file, recompute(file, rule))
        print(f"== {file.stem} ({time.perf_counter() - start:.1f} s)\n{report}")
        if report.missing:
            print("not compared:", ", ".join(report.missing))
        if not report.ok:
            failed.append(file.stem)
    print(f"{len(files)} case(s), failed: {', '.join(failed) or 'none'}")
    return int(bool(failed))


def main(
    folder: Annotated[Path, typer.Argument(help="Folder with .npz cases, weights_rule.py and check.py.")],
    cases: Annotated[list[str] | None, typer.Argument(help="Names of cases; all by default.")] = None,
) -> None:
    """Exit with status 1 when a case disagrees."""
    raise typer.Exit(check_cases(folder, cases or ()))


if __name__ == "__main__":
    run_command(main)
