"""Stages of a toy lineage without torch: one world, two bucketed tables, a model of each recipe, a report.

`python -m tests.support.toy_stages stage NAME --partition P` runs a stage, as `rlip stage` does for the real ones.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.spec import Registry, StageItem, StageSpec


def toy_registry() -> Registry:
    """Seven items: a world, tables a-0 and a-1 and b-0, labels of a, models with and without labels, a report."""

    def spec(name: str, *items: StageItem, **more: Any) -> StageSpec:
        return StageSpec(name, f"tests.support.toy_stages:{name}", f"toy {name}", items, group="toy", **more)

    buckets = {"a-0": "a/bucket-0", "a-1": "a/bucket-1", "b-0": "b/bucket-0"}
    tables = [
        StageItem("table", key, {"world": "data/world.json"}, {"table": f"data/table/{path}"}, ("training.seed",))
        for key, path in buckets.items()
    ]
    labels = [
        StageItem(
            "labels",
            key,
            {"table": f"data/table/{buckets[key]}"},
            {"labels": f"data/labels/{buckets[key]}"},
            ("tagging",),
        )
        for key in ("a-0", "a-1")
    ]
    models = [
        StageItem("model", "plain", {"table": "data/table/b"}, {"model": "data/model/plain"}, ("training.precision",)),
        StageItem(
            "model",
            "more",
            {"table": "data/table/b", "labels": "data/labels/a"},
            {"model": "data/model/more"},
            ("training.precision",),
        ),
    ]
    return Registry(
        [
            spec(
                "world",
                StageItem("world", None, {}, {"world": "data/world.json", "truth": "data/truth"}, ("micro_world",)),
            ),
            spec("table", *tables),
            spec("labels", *labels, pool="gpu"),
            spec("model", *models, pool="gpu", torch=True),
            spec("report", StageItem("report", None, {"models": "data/model"}, {"report": "reports"})),
        ]
    )


def world(ctx: StageContext) -> dict[str, Any]:
    ctx.outputs["world"].write_text('{"size": 3}\n')
    (ctx.outputs["truth"] / "truth.txt").write_text("true\n")
    return {"size": 3}


def table(ctx: StageContext) -> dict[str, Any]:
    (ctx.outputs["table"] / "rows.txt").write_text(f"{ctx.partition} {ctx.params.training.seed % 2}\n")
    return {"rows": 1}


def labels(ctx: StageContext) -> dict[str, Any]:
    for done in range(1, 4):
        ctx.log.progress(done, 3, "rows")
    time.sleep(float(os.environ.get("TOY_SLEEP", "0")))
    rows = (ctx.inputs["table"] / "rows.txt").read_text()
    (ctx.outputs["labels"] / "labels.txt").write_text(rows.upper())
    return {"labels": 1}


def model(ctx: StageContext) -> dict[str, Any]:
    texts = [file.read_text() for path in ctx.inputs.values() for file in sorted(path.rglob("*.txt"))]
    (ctx.outputs["model"] / "model.txt").write_text("".join(texts))
    return {"texts": len(texts), "test_images_in_training": 0}


def report(ctx: StageContext) -> dict[str, Any]:
    found = sorted(path.parent.name for path in ctx.inputs["models"].rglob("model.txt"))
    (ctx.outputs["report"] / "benchmark.md").write_text(f"models: {', '.join(found)}\n")
    return {}


def serve(registry: Registry) -> None:
    """Run `stage NAME [--partition P]` of a registry in the current folder, as `rlip stage` does for the real one."""
    from rlip_assets.lineage.log import open_stage_log
    from rlip_assets.lineage.runner import run_stage
    from rlip_assets.lineage.watchdog import end_with_requester

    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["stage"])
    parser.add_argument("name")
    parser.add_argument("--partition")
    chosen = parser.parse_args()
    end_with_requester()
    root = Path.cwd()
    params = load_params(root / "params.yaml")
    run_stage(registry, params, root, chosen.name, chosen.partition, open_stage_log, version=1)


if __name__ == "__main__":
    serve(toy_registry())
