"""The stage `micro_world`: six raw trees in their official layouts, the hidden truth, and a receipt.

Raw trees are no versioned outputs, as real raw data would not be: the receipt stands for them. A tree is renamed into
place when it is whole, with a mark of what made it beside its files; a tree whose mark fits is not made again, so a
killed run resumes at the dataset.

Datasets whose root is another folder than the micro world's own are real: they are not drawn. A folder that holds anything without
the mark is never replaced.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rlip_assets.labelling.true_relations import TrueRelation, write_true_relations
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.datasets import DETECTION_DATASETS
from rlip_assets.lineage.params.world import WorldParams
from rlip_assets.micro_world.writers import Progress, coco, hico_det, objects365, open_images, v_coco, visual_genome
from rlip_assets.storage.errors import DataError
from rlip_assets.storage.files import atomic_folder, digest_json, sha256_file, sha256_folder, write_json

Written = dict[str, Any] | tuple[dict[str, Any], list[TrueRelation]]
Writer = Callable[[Path, WorldParams, Progress], Written]
WRITERS: dict[str, Writer] = {
    "visual_genome": visual_genome.write,
    "coco": coco.write,
    "objects365": objects365.write,
    "hico_det": hico_det.write,
    "v_coco": v_coco.write,
    "open_images": open_images.write,
}
MARK = "micro_world.json"
PACKAGE = Path(__file__).parent


def recipe(params: WorldParams) -> str:
    """Digest of what decides the bytes of the world: parameters, source of this package, sprites, and the image library."""
    sources = {
        file.relative_to(PACKAGE).as_posix(): sha256_file(file)
        for file in sorted(PACKAGE.rglob("*"))
        if file.suffix in (".py", ".toml") and "starting_weights" not in file.parts
    }
    return digest_json(
        {
            "params": params.model_dump(),
            "sources": sources,
            "sprites": sha256_file(PACKAGE / "sprites.png"),
            "pillow": version("pillow"),
        }
    )


def images_of(params: WorldParams) -> dict[str, int]:
    """Images by dataset."""
    sizes = params.model_dump(exclude={"seed"})
    return {dataset: sum(count for name, count in sizes.items() if name.startswith(dataset)) for dataset in WRITERS}


def _fits(root: Path, truth: Path | None, mark: str) -> dict[str, Any] | None:
    """Return the notes on a tree if the same recipe made it, its truth is there and no file of it changed since."""
    try:
        noted: dict[str, Any] = json.loads((root / MARK).read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    whole = noted.get("recipe") == mark and noted.get("digest") == sha256_folder(root, ignore=(MARK,))
    return noted if whole and (truth is None or truth.exists()) else None


def refuse_foreign(root: Path, dataset: str) -> None:
    """Raise where something else than the micro world wrote into the folder that it is about to replace."""
    if root.exists() and not (root / MARK).is_file() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(
            f"{root} holds files that the micro world did not write, and will not be replaced; move them, set sources.{dataset}.root "
            "in params.yaml to where they are then, or remove them"
        )


def _make(
    dataset: str, root: Path, truth: Path | None, params: WorldParams, mark: str, progress: Progress
) -> dict[str, Any]:
    refuse_foreign(root, dataset)
    with atomic_folder(root, many_files=True) as folder:
        written = WRITERS[dataset](folder, params, progress)
        figures, relations = written if isinstance(written, tuple) else (written, None)
        if relations is not None:
            assert truth is not None
            write_true_relations(truth, relations)
        noted = {"recipe": mark, "digest": sha256_folder(folder), "figures": figures}
        write_json(folder / MARK, noted)
    return noted


def generate_stage(ctx: StageContext) -> dict[str, Any]:
    """Write the raw trees to `params.sources.<dataset>.root` and the outputs `truth` (a folder) and `receipt` (a file).

    Returns the figures of every dataset that is drawn. The receipt holds parameters, and digest and figures of every tree. `truth` has
    the relations of drawn detection datasets; without any it is no output.

    Raises:
        DataError: a folder to draw into holds files of someone else.
    """
    params = ctx.params.micro_world
    drawn = [dataset for dataset in WRITERS if ctx.params.sources.is_drawn(dataset)]
    mark, sizes = recipe(params), {name: count for name, count in images_of(params).items() if name in drawn}
    receipt: dict[str, Any] = {"params": params.model_dump(), "datasets": {}}
    finished = 0

    def progress(images: int) -> None:
        nonlocal finished
        finished += images
        ctx.log.progress(finished, sum(sizes.values()), "images")

    kept = ctx.work / "truth"
    for dataset in drawn:
        place = ctx.params.sources.of(dataset).root
        root = ctx.root / place
        truth = kept / f"{dataset}.parquet" if dataset in DETECTION_DATASETS else None
        noted = _fits(root, truth, mark)
        if noted is None:
            noted = _make(dataset, root, truth, params, mark, progress)
        else:
            progress(sizes[dataset])
        ctx.log.dataset(dataset, root, noted["digest"])
        receipt["datasets"][dataset] = {"root": place, "digest": noted["digest"], "figures": noted["figures"]}
        if truth is not None:
            _copy(truth, ctx.outputs["truth"] / truth.name)
    write_json(ctx.outputs["receipt"], receipt)
    return {dataset: entry["figures"] for dataset, entry in receipt["datasets"].items()}


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
