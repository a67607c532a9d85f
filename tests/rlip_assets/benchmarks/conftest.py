"""The loop formulations of the protocols live in `tests/oracle`; its parent becomes importable here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
