"""A stage without torch, for tests of what runs stages: it counts the words of a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from PIL import Image

from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.spec import Registry, StageItem, StageSpec

LARGE = 11 * 1024 * 1024


def registry(function: str = "count_words", distributed: bool = False) -> Registry:
    """One item that reads `text.txt` and writes the folder `data/words`."""
    item = StageItem("words", "a", {"text": "text.txt"}, {"words": "data/words"}, ("training.seed",))
    spec = StageSpec(
        "words",
        f"tests.support.toy_stage:{function}",
        "words",
        (item,),
        group="toys",
        tracked=True,
        distributed=distributed,
        torch=distributed,
    )
    return Registry([spec])


def project(root: Path) -> Path:
    """A profile's root with the input and parameters of the stage."""
    (root / "text.txt").write_text("one two three")
    (root / "params.yaml").write_text("profile: micro\n")
    return root


def count_words(ctx: StageContext) -> dict[str, Any]:
    words = ctx.inputs["text"].read_text().split()
    (ctx.outputs["words"] / "words.txt").write_text("\n".join(words))
    (ctx.outputs["words"] / "large.bin").write_bytes(bytes(LARGE))
    ctx.log.params({"recipe.name": "count"})
    for step in (1, 2):
        ctx.log.metrics({"loss": 1 / step}, step=step)
    ctx.log.picture("drawn", Image.new("RGB", (8, 8)))
    ctx.log.model(ctx.outputs["words"])
    return {"words": len(words)}


def half_written(ctx: StageContext) -> dict[str, Any]:
    (ctx.outputs["words"] / "words.txt").write_text("half")
    raise RuntimeError("the stage broke")


def writes_nothing(ctx: StageContext) -> dict[str, Any]:
    return {}


def not_a_number(ctx: StageContext) -> dict[str, Any]:
    (ctx.outputs["words"] / "words.txt").write_text("x")
    return {"loss": float("nan")}


def told_steps(ctx: StageContext) -> dict[str, Any]:
    """Report one step after another, each when the file `step-N` appears in the root; the last is `step-end`."""
    step = 0
    while True:
        ended = (ctx.root / "step-end").exists()
        while (ctx.root / f"step-{step + 1}").exists():
            step += 1
            ctx.log.metrics({"loss": 1 / step}, step=step)
        if ended:
            return count_words(ctx)
        time.sleep(0.02)
