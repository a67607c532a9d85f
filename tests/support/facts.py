"""Folders of facts that tests compare with."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FACTS = ROOT / "tests" / "data"
"""Small public facts that lie in the repository; see the README there."""
PHOTOS = FACTS / "photos"
CHECKPOINT_KEYS = FACTS / "checkpoint_keys"
REAL_ANNOTATIONS = Path(os.environ.get("RLIP_REAL_ANNOTATIONS", "real annotations: see tests/data/README.md"))
"""Folder of real annotations for tests marked `real_annotations`, which are collected only where the variable is set."""
