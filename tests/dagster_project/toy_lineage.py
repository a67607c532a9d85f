"""A lineage of toy stages without torch: one world, two bucketed tables, a model of each recipe, a report.

`python -m toy_lineage stage NAME --partition P` runs a stage, as `rlip stage` does for the real ones.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_project.location import Location
from dagster_project.stage_assets import describe_asset, materialize_item
from rlip_assets.dvc_yaml import render_dvc_yaml
from rlip_assets.params import Params
from rlip_assets.params_yaml import render_params_yaml
from rlip_assets.stage import StageContext
from rlip_assets.stage_spec import Registry, StageItem, StageSpec

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
ROOT_VARIABLE = "TOY_LINEAGE_ROOT"
PARENTS = {"world": (), "table": ("world",), "labels": ("table",), "model": ("table", "labels"), "report": ("model",)}


def toy_registry() -> Registry:
    """Seven items: a world, tables a-0 and a-1 and b-0, labels of a, models with and without labels, a report."""

    def spec(name: str, *items: StageItem, **more: Any) -> StageSpec:
        return StageSpec(name, f"toy_lineage:{name}", f"toy {name}", items, group="toy", **more)

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


def make_project(root: Path) -> Path:
    """A DVC project of the toy lineage in the empty folder `root`."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(render_params_yaml(root / "params.yaml"))
    (root / "rlip_assets").mkdir()
    versions = {name: {"version": 1, "source": "toy"} for name in toy_registry().specs}
    (root / "rlip_assets" / "stage_versions.yaml").write_text(json.dumps(versions))
    text = render_dvc_yaml(toy_registry()).replace("cmd: rlip stage", "cmd: python -m toy_lineage stage")
    (root / "dvc.yaml").write_text(text)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=root, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "config", "core.analytics", "false"], cwd=root, check=True)
    return root


def environment(root: Path) -> dict[str, str]:
    """Variables under which DVC and workers find the toy stages."""
    path = os.pathsep.join([str(HERE), str(PROJECT), os.environ.get("PYTHONPATH", "")])
    return {
        "PYTHONPATH": path,
        ROOT_VARIABLE: str(root),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def toy_location() -> Location:
    """The toy lineage in the folder that the environment names."""
    root, registry = Path(os.environ[ROOT_VARIABLE]), toy_registry()

    def asset(name: str, parents: tuple[str, ...]) -> dg.AssetsDefinition:
        @dg.asset(**describe_asset(registry, name, parents, 1, "toy"))
        def body(context):  # type: ignore[no-untyped-def]  # Dagster cannot resolve annotations that are strings
            return materialize_item(context, registry, root)

        return body

    assets = [asset(name, parents) for name, parents in PARENTS.items()]
    return Location(
        dg.Definitions(assets=assets, executor=dg.in_process_executor), registry, root, lambda stage: 1, "toy"
    )


def main() -> None:
    """`stage NAME [--partition P]` in the current folder."""
    from rlip_assets.stage_log import open_stage_log
    from rlip_assets.stage_runner import run_stage
    from rlip_assets.watchdog import end_with_requester

    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["stage"])
    parser.add_argument("name")
    parser.add_argument("--partition")
    chosen = parser.parse_args()
    end_with_requester()
    run_stage(toy_registry(), Params(), Path.cwd(), chosen.name, chosen.partition, open_stage_log, version=1)


if __name__ == "__main__":
    main()
