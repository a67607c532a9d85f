"""The report as Markdown; texts from outside, such as class names, are escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlip_assets.report.page import Section, Table, notices
from rlip_assets.storage.escape import markdown_cell


def to_markdown(facts: Mapping[str, Any], sections: Sequence[Section]) -> str:
    """Return the report's text and tables, with links to plots and pictures."""
    lead = [
        "# Benchmark report",
        *(f"> {notice}" for notice in notices(facts)),
        f"Profile `{facts['profile']}`. All figures in percent.",
    ]
    return "\n\n".join([*lead, *(part for section in sections for part in _parts(section))]) + "\n"


def tables_markdown(sections: Sequence[Section]) -> str:
    """Return titles, texts and tables of sections, without their plots."""
    return "\n\n".join(part for section in sections for part in _parts(section, plots=False)) + "\n"


def _parts(section: Section, *, plots: bool = True) -> Iterator[str]:
    title = markdown_cell(section.title)
    yield f"## {title}"
    if section.text:
        yield section.text
    yield from map(_table, section.tables)
    if plots:
        yield from (f"![{title}]({plot})" for plot in section.plots)
        yield from (f"![{markdown_cell(picture.caption)}]({picture.file})" for picture in section.pictures)


def _table(content: Table) -> str:
    """Return a table; the first column is text, the others are figures."""
    rule = " | ".join(["---", *("---:" for _ in content.header[1:])])
    header, *rows = (" | ".join(map(markdown_cell, cells)) for cells in (content.header, *content.rows))
    return "\n".join(f"| {row} |" for row in (header, rule, *rows))
