"""Names of the benchmark's verbs in each source of relations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlip_assets.report.artifacts import read_rows


def relation_counts(folder: Path) -> Counter[str]:
    """Occurrences of each relation text, lower case, in the scene tables under `folder`."""
    counts: Counter[str] = Counter()
    for part in sorted(folder.rglob("part-*.parquet")):
        for row in read_rows(part, ["relation"]):
            counts.update(relation.lower() for relation in row["relation"] or ())
    return counts


def verb_sources(
    verbs: Sequence[str], accepted: Mapping[str, Sequence[str]], sources: Mapping[str, Counter[str]]
) -> list[dict[str, Any]]:
    """For each verb and source: how often the verb's own text occurs, and how often a text that means the same.

    Args:
        accepted: verb to all texts that mean it.
        sources: source title to its relation texts.
    """
    return [
        {
            "verb": verb,
            "sources": {
                title: {
                    "exact": counts[verb],
                    "synonym": sum(counts[text] for text in set(accepted.get(verb, ())) - {verb}),
                }
                for title, counts in sources.items()
            },
        }
        for verb in verbs
    ]
