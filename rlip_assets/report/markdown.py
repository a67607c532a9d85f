"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlip_assets.report.page import NOTICE, Section, Table


def table(content: Table) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    rule = ["---", *("---:" for _ in content.header[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (content.header, rule, *content.rows))


def to_markdown(facts: Mapping[str, Any], sections: Sequence[Section]) -> str:
    """The report's text and tables, with links to plots and pictures."""
    parts = [
        "# Benchmark report",
        *([f"> {NOTICE}"] if facts["micro_world"] else []),
        f"Profile `{facts['profile']}`. All figures in percent.",
    ]
    for section in sections:
        parts += [f"## {section.title}", *([section.text] if section.text else []), *map(table, section.tables)]
        parts += [f"![{section.title}]({plot})" for plot in section.plots]
        parts += [f"![{picture.caption}]({picture.file})" for picture in section.pictures]
    return "\n\n".join(parts) + "\n"
