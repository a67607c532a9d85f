"""The pages that compare a profile's trainings: which runs stand on each, by data mix, shots and seed."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from rlip_assets.tracking.comparisons import comparisons
from rlip_assets.tracking.store import experiment_id, open_store


def test_each_comparison_opens_on_the_newest_runs_of_its_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("RLIP_MLFLOW_UI", "http://127.0.0.1:5005")
    client = open_store()

    def trained(stage: str, partition: str, profile: str = "micro", status: str = "FINISHED", **params: str) -> str:
        experiment = experiment_id(client, "pretraining" if stage == "pretrain" else "finetuning")
        tags = {"profile": profile, "stage": stage, "dagster.partition": partition}
        run = client.create_run(experiment, tags=tags).info.run_id
        for name, value in params.items():
            client.log_param(run, name.replace("__", "."), value)
        client.set_terminated(run, status)
        return str(run)

    trained("pretrain", "vg", data_mix="vg")
    assert comparisons(client, "micro") == {}
    hico = {"recipe__benchmark": "hico_det", "unseen": ""}
    mixes = {trained("pretrain", "vg", data_mix="vg"), trained("pretrain", "vg_coco", data_mix="vg+coco")}
    shots = {trained("finetune", "hico_1", shots="0.01", **hico), trained("finetune", "hico_full", shots="1.0", **hico)}
    trained("finetune", "hico_uc", shots="1.0", **(hico | {"unseen": "rf"}))
    trained("finetune", "v_coco", shots="1.0", recipe__benchmark="v_coco")
    trained("pretrain", "vg_o365", status="FAILED", data_mix="vg+o365")
    trained("pretrain", "vg_o365", profile="study", data_mix="vg+o365")
    repeat = trained("finetune", "hico_1-seed1", shots="0.01", **hico)

    found = comparisons(client, "micro")
    assert all(address.startswith("http://127.0.0.1:5005/#/metric?") for address in found.values())
    assert all("metric=%22headline%22&" in address for address in found.values()), "it opens on the figure compared"
    shown = {title: set(json.loads(parse_qs(address.partition("?")[2])["runs"][0])) for title, address in found.items()}
    first = next(run for run in shots if client.get_run(run).data.params["shots"] == "0.01")
    assert shown == {"data mixes": mixes, "shots": shots, "seeds": {first, repeat}}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@host/")
    assert comparisons(client, "micro")["shots"].startswith("http://host/#/metric?")
