"""Compare the evaluators with a folder of reference cases.

    python -m perf.check_golden_evaluation tests/golden/evaluation

Prints the largest difference of each recorded run and exits with 1 if one is past its tolerance.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rlip_assets.storage.errors import RlipError
from tests.support.golden_check import check_folder


def main(arguments: list[str]) -> int:
    """Exit code: 0 all equal, 1 a difference, 2 wrong use."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    failed = 0
    try:
        for found in check_folder(Path(arguments[0])):
            failed += not found.passed
            verdict = "ok" if found.passed else "DIFFERS"
            print(
                f"{found.case:20} {found.run:9} {found.figures:5} figures   largest difference {found.difference:.2e}"
                f"   tolerance {found.tolerance:.1e}   {verdict}"
            )
    except RlipError as error:
        print(error, file=sys.stderr)
        return 2
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
