"""Comparisons of a profile's trainings: which runs stand side by side, and the page that MLflow opens on them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

from rlip_assets.evaluation.headlines import HEADLINE
from rlip_assets.report.repeats import REPEAT
from rlip_assets.tracking.address import ui_address

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

PARTITION = "dagster.partition"


def comparisons(client: MlflowClient, profile: str) -> dict[str, str]:
    """Return the address of each comparison that has at least two runs: data mixes, shots, seeds. The newest run of an item counts."""
    from rlip_assets.tracking.store import all_runs

    newest: dict[tuple[str, str], Run] = {}
    for run in all_runs(client, f"attributes.status = 'FINISHED' and tags.profile = '{profile}'"):
        tags = run.data.tags
        if tags.get("stage") in ("pretrain", "finetune"):
            newest.setdefault((tags["stage"], tags.get(PARTITION, "")), run)
    first_seeds = {key: run for key, run in newest.items() if not REPEAT.fullmatch(key[1])}
    mixes = [run for (stage, _), run in first_seeds.items() if stage == "pretrain"]
    shots = [run for (stage, _), run in first_seeds.items() if stage == "finetune" and not _unseen(run)]
    repeated = {(stage, repeat["setting"]) for stage, name in newest if (repeat := REPEAT.fullmatch(name))}
    seeds = [run for (stage, name), run in newest.items() if (stage, _setting(name)) in repeated]
    found = {
        "data mixes": mixes if _values(mixes, "data_mix") > 1 else [],
        "shots": shots if _values(shots, "shots") > 1 else [],
        "seeds": seeds,
    }
    return {title: comparison_address(runs) for title, runs in found.items() if len(runs) > 1}


def comparison_address(runs: Iterable[Run]) -> str:
    """Return the address of MLflow's page that plots the headline figure of `runs` side by side; its other metrics are a choice there.

    The page of parameters and metrics (`/compare-runs`) always opens on the first metric of all, which is one of the machine.
    """
    runs = list(runs)
    ids = [run.info.run_id for run in runs]
    experiments = sorted({str(run.info.experiment_id) for run in runs})
    query = {
        "runs": ids,
        "metric": HEADLINE,
        "experiments": experiments,
        "plot_metric_keys": [HEADLINE],
        "plot_layout": {"autosize": True},
    }
    named = "&".join(f"{name}={quote(json.dumps(value))}" for name, value in query.items())
    return f"{ui_address()}/#/metric?{named}&x_axis=step"


def _unseen(run: Run) -> bool:
    return bool(run.data.params.get("unseen")) or run.data.params.get("recipe.benchmark") != "hico_det"


def _setting(partition: str) -> str:
    repeat = REPEAT.fullmatch(partition)
    return repeat["setting"] if repeat else partition


def _values(runs: Iterable[Run], name: str) -> int:
    return len({run.data.params.get(name) for run in runs})
