"""The report as one HTML page with plots and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2

NOTICE = (
    "These figures belong to a small procedural world, with small networks trained for minutes: "
    "micro-world numbers are not comparable to published results."
)


@dataclass(frozen=True)
class Table:
    """Cells as texts; the first column is left-aligned."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """An image file beside the page."""

    file: str
    caption: str


@dataclass(frozen=True)
class Section:
    """One heading with what follows it."""

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    plots: Sequence[str] = ()
    pictures: Sequence[Picture] = ()


def render_page(facts: Mapping[str, Any], sections: Sequence[Section]) -> str:
    """The HTML text of a lineage's report; all values are escaped."""
    lead = f"Profile {facts['profile']}. All figures in percent."
    return render("Benchmark report", lead, sections, " ".join(notices(facts)))


def notices(facts: Mapping[str, Any]) -> list[str]:
    """Return the sentences that stand above a report's figures: of a rehearsal, and of the micro world."""
    rehearsal = facts.get("rehearsal")
    return [
        *([f"This is a {rehearsal}: its figures show that every stage runs, and nothing else."] if rehearsal else []),
        *([NOTICE] if facts["micro_world"] else []),
    ]


def render(title: str, lead: str, sections: Sequence[Section], notice: str = "") -> str:
    """Any page of sections as HTML; all values are escaped. `notice` is shown on top, in colour."""
    template = files("rlip_assets.report").joinpath("page.html.j2").read_text()
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(template).render(title=title, lead=lead, notice=notice, sections=sections)
