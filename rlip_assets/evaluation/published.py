"""Published figures by setting and protocol, to be put beside those of a run.

`published.json` holds percentages as published, each row with its source. RLIP and RLIPv2 evaluate HICO-DET with their own protocol and
pair suppression; of the later methods the papers rarely say which, so their rows stand under the same setting with that caution.
Published Open Images figures contain the defects that the `compat` protocol reproduces.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class Published:
    """One published row.

    Attributes:
        setting: key of `PublishedFigures.settings`.
        method, backbone, note: as the source calls them; "" where it does not say.
        figures: name (as in `metrics.json`, without the protocol) to percent.
        source: key of `PublishedFigures.sources`.
    """

    setting: str
    method: str
    backbone: str
    note: str
    figures: Mapping[str, float]
    source: str


@dataclass(frozen=True)
class Setting:
    """A benchmark setting: its title, and the protocol whose figures of ours compare with it."""

    title: str
    protocol: str


@dataclass(frozen=True)
class Source:
    """A place where figures were read; `url` is None where there is no single address."""

    title: str
    url: str | None


@dataclass(frozen=True)
class PublishedFigures:
    """All published figures.

    Attributes:
        settings: key to setting, in the order of the report.
        sources: key to source.
        rows: in the order of the file.
    """

    settings: Mapping[str, Setting]
    sources: Mapping[str, Source]
    rows: tuple[Published, ...]

    def of_setting(self, setting: str) -> list[dict[str, Any]]:
        """Rows of a setting in the order of the file, as a report shows them: `method`, `note`, `figures` (percent), `source`."""
        return [
            {
                "method": " ".join(filter(None, (row.method, row.backbone))),
                "note": row.note,
                "figures": dict(row.figures),
                "source": self.sources[row.source].title,
            }
            for row in self.rows
            if row.setting == setting
        ]

    def of(self, setting: str, figure: str) -> tuple[Published, ...]:
        """Rows of a setting that give a figure, best first.

        Raises:
            KeyError: no such setting.
        """
        if setting not in self.settings:
            raise KeyError(f"no setting {setting!r}; there are {', '.join(self.settings)}")
        rows = (row for row in self.rows if row.setting == setting and figure in row.figures)
        return tuple(sorted(rows, key=lambda row: -row.figures[figure]))


@cache
def published_figures() -> PublishedFigures:
    """The table in `published.json`."""
    content = json.loads(FILE.read_text())
    return PublishedFigures(
        {key: Setting(**value) for key, value in content["settings"].items()},
        {key: Source(**value) for key, value in content["sources"].items()},
        tuple(Published(**row) for row in content["rows"]),
    )
