"""The table of findings: wrapped on a terminal, one line per row elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlip_assets.doctor.finding import Level
from rlip_assets.doctor.registry import Row

_STYLES = {Level.FAILED: "bold red", Level.WARNING: "yellow", Level.SKIPPED: "dim", Level.OK: "green"}
_COLUMNS = ("", "check", "subject", "finding", "remedy")


def show(rows: Sequence[Row], console: Console) -> None:
    """Print the table, the worst findings first within their check's order, and the count of each level."""
    lines = [
        (str(row.finding.level), row.check, row.finding.subject, row.finding.message, row.finding.remedy)
        for row in rows
    ]
    if console.is_terminal:
        table = Table(*_COLUMNS, box=box.SIMPLE_HEAD)
        for row, line in zip(rows, lines, strict=True):
            table.add_row(Text(line[0], _STYLES[row.finding.level]), *map(Text, line[1:]))
        console.print(table)
    else:
        widths = [max(len(line[k]) for line in (_COLUMNS, *lines)) for k in range(2)]
        for line in (_COLUMNS, *lines):
            start = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False))
            told = ": ".join(filter(None, line[2:4])) + (f" -> {line[4]}" if line[4] else "")
            print(f"{start}  {told}" if line is not _COLUMNS else f"{start}  subject: finding -> remedy")
    counts = Counter(row.finding.level for row in rows)
    print(", ".join(f"{counts[level]} {level}" for level in Level))
