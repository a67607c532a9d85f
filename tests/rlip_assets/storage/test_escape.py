"""Text from outside neither runs as a formula nor breaks a table."""

from __future__ import annotations

import pytest

from rlip_assets.storage.escape import csv_cell, markdown_cell


@pytest.mark.parametrize("text", ["=1+1", "+1", "-cmd", "@SUM(A1)", " =1", "\t=1"])
def test_a_formula_becomes_text(text: str) -> None:
    assert csv_cell(text) == f"'{text}"
    assert csv_cell(f"\r\n{text}") == f"' {text}"


@pytest.mark.parametrize("value", ["ride horse", "a=b", "", -1, 0.5, None])
def test_other_cells_stay(value: object) -> None:
    assert csv_cell(value) == value


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("hit_instr", "hit_instr"),
        ("a|b", r"a\|b"),
        ("a\nb\r\n| c |", r"a b \| c \|"),
        ("<img src=x onerror=1> & co", "&lt;img src=x onerror=1&gt; &amp; co"),
        ("[x](javascript:1) `c` *e*", r"\[x\](javascript:1) \`c\` \*e\*"),
        ("\\|", r"\\\|"),
    ],
)
def test_a_markdown_cell_shows_its_text(text: str, shown: str) -> None:
    assert markdown_cell(text) == shown
