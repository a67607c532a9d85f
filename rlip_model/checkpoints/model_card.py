"""The model card of a checkpoint, written from its configuration and the run's own figures."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from rlip_model.config import ModelConfig

PAPER = "https://arxiv.org/abs/2308.09351"
TAGS = ("relation-detection", "scene-graph-generation", "human-object-interaction", "rlipv2")


def model_card(config: ModelConfig, metadata: Mapping[str, Any] | None = None) -> str:
    """Return the Markdown text of a model card; `metadata` as in `save_checkpoint`, and may come from a stranger."""
    metadata = metadata or {}
    name = _text(metadata.get("name", "RLIPv2"))
    trained_on = _text(metadata.get("trained_on", ""))
    kind = "R-Tagger" if config.tagger else {"boxes": "ParSeDA", "points": "ParSeD", "none": "ParSe"}[config.anchors]
    version = "RLIPv1" if config.is_rlipv1 else "RLIPv2"
    parts = [
        (
            "network",
            f"{version}-{kind}, {config.backbone.kind} backbone, fusion `{config.fusion}`, {config.pairs} pairs",
        ),
        ("trained on", trained_on or "not recorded"),
        *(
            (key, _text(metadata[key]))
            for key in ("stage", "partition", "seed", "source")
            if metadata.get(key) is not None
        ),
    ]
    figures = metadata.get("figures")
    rows = [
        (_text(key), f"{value:.4g}" if isinstance(value, float) else _text(value))
        for key, value in (figures if isinstance(figures, Mapping) else {}).items()
        if isinstance(value, (int, float, str))
    ]
    toy = (
        "Figures of the micro world are not comparable to published results.\n\n" if "micro world" in trained_on else ""
    )
    run = f"## Figures of the training run\n\n{_table('figure', 'value', rows)}\n\n" if rows else ""
    return f"""---
library_name: rlip
pipeline_tag: object-detection
tags: [{", ".join(TAGS)}]
---
# {name}

Relations in images by relational language-image pre-training ([RLIPv2]({PAPER})).

{_table("", "", parts)}

{toy}{run}## Use

```python
from rlip_model import load_checkpoint

checkpoint = load_checkpoint("FOLDER_OR_HUB_NAME")
```
"""


def _table(left: str, right: str, rows: list[tuple[str, str]]) -> str:
    return "\n".join(f"| {a} | {b} |" for a, b in [(left, right), ("---", "---"), *rows])


def _text(value: object) -> str:
    """One line without Markdown or HTML of its own."""
    return html.escape(" ".join(str(value).split()), quote=False).translate({ord(c): f"\\{c}" for c in "|`[]*\\"})
