"""A lineage of one bucketed stage that writes empty shards: what is left is what orchestration costs. Used by `orchestration.py`.

`python -m perf.empty_lineage stage work --partition bucket-0` runs the stage, as `rlip stage` does for the real ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from dagster_dvc import read_project
from dagster_dvc.assets import build_assets
from dagster_project.translator import PipelineTranslator
from rlip_assets.dvc.pipeline import render_dvc_yaml
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.params.execution import ExecutionParams
from rlip_assets.lineage.params_yaml import render_params_yaml
from rlip_assets.lineage.shards import ShardStore, split
from rlip_assets.lineage.spec import Registry, StageItem, StageSpec
from rlip_assets.lineage.versions import VERSIONS_FILE
from rlip_assets.storage.files import write_text
from tests.support.toy_stages import serve

SETTINGS_FILE = "settings.json"
ROOT_VARIABLE = "EMPTY_LINEAGE_ROOT"


def registry_of(root: Path) -> Registry:
    """The stage `work` with the buckets that the settings ask for; a changed `training.seed` makes all of them again."""
    buckets = json.loads((root / SETTINGS_FILE).read_text())["buckets"]
    items = tuple(
        StageItem("work", f"bucket-{n}", {"rows": "rows.txt"}, {"work": f"data/bucket-{n}"}, ("training.seed",))
        for n in range(buckets)
    )
    return Registry([StageSpec("work", "perf.empty_lineage:work", "empty shards", items, group="empty")])


def work(ctx: StageContext) -> dict[str, Any]:
    """Write this bucket's share of the shards, each with one empty file."""
    settings = json.loads((ctx.root / SETTINGS_FILE).read_text())
    bucket = int(str(ctx.partition).removeprefix("bucket-"))
    rows = [f"{bucket}/{n}" for n in range(bucket, settings["shards"], settings["buckets"])]

    def make(shard: list[str], folder: Path) -> dict[str, Any]:
        (folder / "empty").touch()
        return {"rows": len(shard)}

    shards = [split([row], 1, str, str)[0] for row in rows]
    finished = ShardStore.of(ctx, {"seed": ctx.params.training.seed}).make_all(shards, make, ctx.log, "shards")
    (ctx.outputs["work"] / "shards.txt").write_text("\n".join(shard.folder.name for shard in finished))
    return {"shards": len(finished)}


def make_project(root: Path, buckets: int, shards: int) -> None:
    """Write the profile and its DVC repository into the empty folder `root`."""
    root.mkdir(parents=True)
    (root / SETTINGS_FILE).write_text(json.dumps({"buckets": buckets, "shards": shards}))
    (root / "rows.txt").write_text("rows\n")
    (root / "params.yaml").write_text(render_params_yaml(root / "params.yaml"))
    write_text(root / VERSIONS_FILE, json.dumps({"work": {"version": 1, "source": "empty"}}))
    text = render_dvc_yaml(registry_of(root)).replace("cmd: rlip stage", "cmd: python -m perf.empty_lineage stage")
    (root / "dvc.yaml").write_text(text)
    for words in (("init", "--no-scm", "--quiet"), ("config", "core.analytics", "false")):
        subprocess.run([sys.executable, "-m", "dvc", *words], cwd=root, check=True)


def change_seed(root: Path, seed: int) -> None:
    """Make every bucket stale."""
    content = yaml.safe_load((root / "params.yaml").read_text())
    content["training"]["seed"] = seed
    (root / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


@dg.definitions
def definitions() -> dg.Definitions:
    """The stage as an asset, with a job for backfills of a run per bucket."""
    root = Path(os.environ[ROOT_VARIABLE])
    registry = registry_of(root)
    runs = int(os.environ.get("EMPTY_LINEAGE_BUCKETS_PER_RUN", "1"))
    execution = ExecutionParams(buckets_per_run=runs or None)
    translator = PipelineTranslator(registry, "empty", execution)
    assets = build_assets(read_project(root), translator)
    job = dg.define_asset_job("work_job", dg.AssetSelection.assets(dg.AssetKey(["empty", "work"])))
    return dg.Definitions(assets=assets, jobs=[job], executor=dg.in_process_executor)


if __name__ == "__main__":
    serve(registry_of(Path.cwd()))
