"""Every file and test that the quirk table names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"M": "rlip_model", "A": "rlip_assets", "TM": "tests/rlip_model", "TA": "tests/rlip_assets"}
TABLE = (ROOT / "docs" / "quirks.md").read_text()
ROWS = [line for line in TABLE.splitlines() if re.match(r"\| \d+ \|", line)]


def test_all_quirks_are_decided() -> None:
    assert [int(row.split("|")[1]) for row in ROWS] == list(range(1, 38))
    for row in ROWS:
        assert re.match(r" (kept|fixed|dropped|option)", row.split("|")[3]), row


@pytest.mark.parametrize("short", sorted(set(re.findall(r"`((?:M|A|TM|TA)/[\w/.]+\.py)`", TABLE))))
def test_file_is_there(short: str) -> None:
    folder, _, rest = short.partition("/")
    assert (ROOT / FOLDERS[folder] / rest).is_file()


def test_tests_are_there() -> None:
    source = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    for name in set(re.findall(r"`(test_\w+)`", TABLE)):
        assert f"def {name}(" in source, name
