"""Text from outside made safe for the files that carry it: CSV cells and Markdown."""

from __future__ import annotations

import html
import re

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def csv_cell(value: object) -> object:
    """Return the value of a CSV cell; a text that a spreadsheet would run as a formula gets an apostrophe in front (OWASP)."""
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(FORMULA_STARTS) else value


def markdown_cell(text: str) -> str:
    """Return the text on one line, with HTML, column bars, code, emphasis and links of Markdown shown as they are."""
    return re.sub(r"([\\`*|\[\]])", r"\\\1", html.escape(" ".join(text.split()), quote=False))
