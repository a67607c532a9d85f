"""Precision and recall of a parser on annotated captions (`docs/caption_annotation_rules.md` says how they count)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from rlip_assets.labelling.caption_parsing.parser import CaptionParser

Statement = tuple[str, str, str]


@dataclass(frozen=True)
class Share:
    """`hits` of `total`, with the Wilson interval at 95 %."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        return self.hits / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound of the underlying share."""
        if not self.total:
            return 0.0, 1.0
        found = binomtest(self.hits, self.total).proportion_ci(method="wilson")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.3f} ({self.hits}/{self.total}, 95 % interval {low:.3f} to {high:.3f})"


def read_annotations(path: Path, part: str) -> list[dict[str, Any]]:
    """Annotated captions of a part, "development" or "held_out": image_id, and items with accepted triplets."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return [row for row in content["captions"] if row["part"] == part]


def score(
    annotations: Sequence[Mapping[str, Any]],
    captions: Mapping[int, str],
    parse: CaptionParser,
) -> tuple[Share, Share]:
    """Precision and recall. `captions`: image id -> caption. Entities are compared by their last word."""
    right = wrong = found = items = 0
    parsed = parse([captions[row["image_id"]] for row in annotations])
    for row, triplets in zip(annotations, parsed, strict=True):
        said = {_by_head((t.subject, t.relation, t.object)) for t in triplets}
        explained: set[Statement] = set()
        for item in row["items"]:
            hit = said & {_by_head(tuple(accepted)) for accepted in item["accept"]}
            explained |= hit
            if not item.get("optional"):
                items += 1
                found += bool(hit)
                right += bool(hit)
        wrong += len(said - explained)
    return Share(right, right + wrong), Share(found, items)


def _by_head(statement: Sequence[str]) -> Statement:
    subject, relation, target = statement
    return subject.rpartition(" ")[2], relation, target.rpartition(" ")[2]
