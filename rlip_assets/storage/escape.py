"""Text from outside made safe for the files that carry it: CSV cells and Markdown."""

from __future__ import annotations

import html
import re

FORMULA_STARTS = ("=", "+", "-", "@", "\t")


def csv_cell(value: object) -> object:
    """Return the value of a CSV cell: text on one line, with an apostrophe in front of what a spreadsheet would run (OWASP)."""
    if not isinstance(value, str):
        return value
    line = re.sub(r"[\r\n]+", " ", value)
    return f"'{line}" if line.lstrip(" ").startswith(FORMULA_STARTS) else line


def markdown_cell(text: str) -> str:
    """Return the text on one line, with HTML, column bars, code, emphasis and links of Markdown shown as they are."""
    return re.sub(r"([\\`*|\[\]])", r"\\\1", html.escape(" ".join(text.split()), quote=False))
