"""Every file and test that the quirk table and the paper table name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import rlip_model

ROOT = Path(__file__).parents[2]
FOLDERS = {"M": "rlip_model", "A": "rlip_assets", "TM": "tests/rlip_model", "TA": "tests/rlip_assets"}
TABLE = (ROOT / "docs" / "quirks.md").read_text()
ROWS = [line for line in TABLE.splitlines() if re.match(r"\| \d+ \|", line)]


def test_all_quirks_are_decided() -> None:
    assert [int(row.split("|")[1]) for row in ROWS] == list(range(1, len(ROWS) + 1))
    assert len(ROWS) >= 52
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


def test_the_paper_table_leads_to_files_tests_and_quirks() -> None:
    assert rlip_model.__doc__
    rows = re.findall(r"^\| (.+) \| (rlip_\S+)(?: \(`(\w+)`\))? \| (\S+) \| (.+) \|$", rlip_model.__doc__, re.MULTILINE)
    assert len(rows) == 12
    for section, file, name, test, quirks in rows:
        assert (ROOT / file).exists(), section
        assert not name or f"class {name}(" in (ROOT / file).read_text(), section
        assert (ROOT / test).is_file(), section
        assert all(1 <= int(number) <= len(ROWS) for number in re.findall(r"\d+", quirks)), section
