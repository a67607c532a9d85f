"""Runs of stages of long ago in a tracking store."""

from __future__ import annotations

import time
from pathlib import Path
from unittest.mock import patch

from rlip_assets.tracking.comparisons import PARTITION
from rlip_assets.tracking.journal import Journal
from rlip_assets.tracking.sender import Sender, send_waiting


def report(root: Path, item: str, days: float, status: str | None = "FINISHED", send: bool = True) -> str:
    """Report a run of an item that began and ended some days ago, of `train` with a model; returns its key."""
    stage, _, partition = item.partition("@")
    tags = {"profile": root.name, "stage": stage, PARTITION: partition}
    content = {"experiment": "toys", "name": item, "profile": root.name, "grouped": False, "busy": False, "tags": tags}
    with patch("time.time", return_value=time.time() - days * 86400):
        journal = Journal.create(root, item, content)
        journal.add("metrics", values={"loss": 0.5}, step=1)
        (file := journal.attach("note.txt", "notes")).write_text("x")
        journal.add_file(file)
        if stage == "train":
            place = {"root": str(root), "profile": root.name, "folder": "data/model", "files": {"weights": "0" * 32}}
            journal.add("model", name=f"{root.name}-{item.replace('@', '-')}", item=item, description="", **place)
        if status:
            journal.end(status)
    if send:
        assert len(list(send_waiting(root, Sender(root)))) == (status is not None)
    return journal.key
