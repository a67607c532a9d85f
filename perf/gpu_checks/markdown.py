"""The record as tables of `docs/gpu.md`, between two marks; everything else in that file is left alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from perf.gpu_checks.record import OWN, shown

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def check_marks(path: Path) -> str:
    """Return the text of a file that has both marks.

    Raises:
        ValueError: the file lacks them.
    """
    text = path.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(f"{path} has no lines {BEGIN} and {END}: add them where the results should stand")
    return text


def write_markdown(values: Mapping[str, Any], path: Path) -> None:
    """Put the record's tables between the marks of a file; see `check_marks`."""
    text = check_marks(path)
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n{markdown(values)}\n{END}{after}", encoding="utf-8")
    print(f"wrote the results to {path}")


def markdown(values: Mapping[str, Any]) -> str:
    """Return the tables: what was measured on, the goals, and one table per check and set of columns."""
    lines = [f"Status: {values['status']}, {values['seconds']:.0f} s.", ""]
    facts = {name: value for name, value in values.items() if name not in OWN}
    lines += _table(("fact", "value"), [(name, str(value)) for name, value in facts.items() if name != "judged"])
    verdicts = {True: "met", False: "missed", None: "not judged"}
    goals = [
        (
            goal["goal"],
            f"{goal['bound']} {goal['wanted']:g}",
            goal["unit"],
            shown(goal["measured"]),
            verdicts[goal["met"]],
        )
        for goal in values["goals"]
    ]
    lines += _table(("goal", "wanted", "unit", "measured", "verdict"), goals)
    for check in values["checks"]:
        lines += [f"### {check['title']}", "", f"`{check['name']}`: {check['status']} after {check['seconds']:.0f} s."]
        lines += [f"{check['message']}", ""] if check["message"] else [""]
        for columns, rows in _groups(check["rows"]):
            marks = {True: "yes", False: "**no**", None: ""}
            cells = [(row["name"], *(shown(row["figures"][c]) for c in columns), marks[row["ok"]]) for row in rows]
            lines += _table(("", *columns, "right"), cells)
    return "\n".join(lines).rstrip()


def _groups(rows: list[dict[str, Any]]) -> Iterator[tuple[tuple[str, ...], list[dict[str, Any]]]]:
    """Rows with the same columns together, in order of first appearance."""
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row["figures"]), []).append(row)
    yield from found.items()


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", "| " + " | ".join(["---"] * len(columns)) + " |"]
    return [*lines, *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows), ""]
