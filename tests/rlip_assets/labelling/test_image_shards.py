"""Shards of models belong to the type of device that made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rlip_assets.labelling.image_shards import make_shards, write_unreadable
from rlip_assets.lineage import shards
from rlip_assets.lineage.shards import split
from rlip_assets.training import processes
from tests.support.label_factory import context, make_params


def test_shards_of_one_type_of_device_are_not_those_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "run", lambda work, tasks, *_: map(work, tasks))

    def made(device: str, setting: str = "auto", **execution: Any) -> int:
        """How many of two shards are made where this machine has `device`; one that is named need not be there."""
        choices = {"auto": torch.device(device)}
        monkeypatch.setattr(processes, "choose_device", choices.__getitem__)
        params = make_params(tmp_path, training={"device": setting}, execution={"workers": 2, **execution})
        ctx = context(tmp_path, "captions", params, {}, "captions")

        def make(rows: list[str], folder: Path) -> dict[str, Any]:
            write_unreadable(folder, [])
            return {}

        finished, _ = make_shards(ctx, {"model": "m"}, split(["a", "g"], 1, str, str), make)
        return sum(not shard.reused for shard in finished)

    assert made("cpu", engine="processes") == 2
    assert made("cuda", engine="ray") == 0  # a worker without a GPU of its own
    assert made("cuda", engine="processes") == 2
    assert made("cpu", "cuda", engine="processes") == 0
    assert made("cpu", engine="ray", gpus_per_worker=0.5) == 0
    assert made("cpu", engine="processes") == 2
    assert made("cuda", "cpu", engine="processes") == 0
