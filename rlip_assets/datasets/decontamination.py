"""Decontamination: images to learn from that occur in the test split of a benchmark.

COCO train2017, for instance, holds images of V-COCO's test split, and about half of Visual Genome are images of COCO. An image is found by
its id where two datasets share their ids or one names the other's, and by its looks (`likeness`) otherwise, resized, compressed anew,
mirrored and cut at its edges as it may be. What is found is listed with its twin. Unless `decontamination.exclude` is off, an image so
listed receives no pseudo labels, and nothing is trained on its human triplets.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from rlip_assets.datasets.image_identity import ImageKey, image_key
from rlip_assets.datasets.perceptual_hash import LOOK_VERSION, SIDE, Thumbnails, alike, thumbnail_of
from rlip_assets.datasets.scenes import Scene, bucket_folders, read_scenes
from rlip_assets.datasets.sources.dataset_facts import read_facts
from rlip_assets.datasets.sources.roots import image_root
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.shard_progress import rows_done
from rlip_assets.lineage.shards import FinishedShard, ShardStore, add_figures, split
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.file_state import content_state
from rlip_assets.storage.files import atomic_file, digest_json, sha256_folder, write_json
from rlip_assets.storage.images import BadImageError, image_inside, refuse_lost_folder

LIST_FILE = "test_images.json"
_FILE = "thumbnails.npz"


@dataclass(frozen=True, order=True)
class Occurrence:
    """An image that occurs in a test split: its id and file, the benchmark and the image there, how it was found ("id" or "looks"), and how
    alike the two look, rounded (None when it was found by id)."""

    image_id: str
    file_name: str
    benchmark: str
    test_image: str
    found_by: str
    likeness: float | None


@dataclass(frozen=True)
class SmallImages:
    """n images: ids and file names; of those m that can be compared, their places (m,) and thumbnails (m, SIDE, SIDE). The others are
    without contrast (`plain` of them) or cannot be read (`unreadable`)."""

    ids: list[str]
    files: list[str]
    places: npt.NDArray[np.int64]
    thumbnails: Thumbnails
    plain: int
    unreadable: int

    @classmethod
    def of(cls, scenes: Sequence[Scene], root: Path, known: SmallImages | None = None) -> SmallImages:
        """Read the files of some scenes, but for those of which `known`, made of the same scenes, has thumbnails."""
        before = dict(zip(known.places.tolist(), known.thumbnails, strict=True)) if known else {}
        places, thumbnails = [], []
        plain = unreadable = 0
        for place, scene in enumerate(scenes):
            rows_done()
            try:
                found = before[place] if place in before else thumbnail_of(image_inside(root, scene.file_name))
            except BadImageError as error:
                refuse_lost_folder(error.file, scene.file_name)
                unreadable += 1
                continue
            if found is None:
                plain += 1
            else:
                places.append(place)
                thumbnails.append(found)
        stacked = np.stack(thumbnails) if thumbnails else np.zeros((0, SIDE, SIDE), np.uint8)
        names = [scene.image_id for scene in scenes], [scene.file_name for scene in scenes]
        return cls(*names, np.array(places, np.int64), stacked, plain, unreadable)

    def save(self, path: Path) -> None:
        """Write to an npz file, atomically."""
        with atomic_file(path) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                ids=np.array(self.ids, str),
                files=np.array(self.files, str),
                places=self.places,
                thumbnails=self.thumbnails,
                without=np.array([self.plain, self.unreadable]),
            )

    @classmethod
    def load(cls, path: Path) -> SmallImages:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as content:
            names = content["ids"].tolist(), content["files"].tolist()
            return cls(*names, content["places"], content["thumbnails"], *content["without"].tolist())


def decontamination_stage(ctx: StageContext) -> dict[str, Any]:
    """List the images of one bucket that occur in a test split.

    Inputs: `scenes` of the bucket, `facts` of Visual Genome, and `benchmark/DATASET` (folders of buckets). Output:
    `decontamination` with `test_images.json`.
    Thumbnails of a bucket are made shard by shard; those of the test images once for all buckets.

    Raises:
        InputError: a damaged table, or the images of a dataset are not there.
    """
    params = ctx.params.decontamination
    dataset = (ctx.partition or "").rpartition("-")[0]
    root = image_root(ctx, dataset)
    scenes = list(read_scenes(ctx.inputs["scenes"]))

    def make(rows: list[Scene], folder: Path) -> dict[str, Any]:
        small = SmallImages.of(rows, root)
        small.save(folder / _FILE)
        return {"compared": len(small.places), "plain": small.plain, "unreadable": small.unreadable}

    def content(scene: Scene) -> list[object]:
        return [scene.image_id, scene.file_name, content_state(root / scene.file_name)]

    parts = split(scenes, params.rows_per_shard, lambda scene: scene.image_id, content)
    finished = ShardStore.of(ctx, {"looks": LOOK_VERSION}).make_all(parts, make, ctx.log, "images")
    keys = _keys(dataset, scenes, ctx.inputs.get("facts"))
    found: set[Occurrence] = set()
    tests: dict[str, int] = {}
    unreadable: dict[str, int] = {}
    for name, tables in sorted(ctx.inputs.items()):
        if not name.startswith("benchmark/"):
            continue
        benchmark = name.removeprefix("benchmark/")
        twins = _test_images(ctx, benchmark, bucket_folders(tables))
        tests[benchmark], unreadable[benchmark] = len(twins.ids), twins.unreadable
        if twins.unreadable:
            ctx.log.info(f"{twins.unreadable} test images of {benchmark} cannot be read: they are found by id alone")
        found.update(_by_id(scenes, keys, benchmark, twins))
        found.update(_by_looks(finished, benchmark, twins, params.min_likeness))
    write_json(ctx.outputs["decontamination"] / LIST_FILE, [asdict(entry) for entry in sorted(found, key=_order)])
    return {
        "images": len(scenes),
        **add_figures(shard.figures for shard in finished),
        "test_images": tests,
        "test_images_unreadable": unreadable,
        "listed": len({entry.image_id for entry in found}),
        "by_benchmark": {name: len({entry.image_id for entry in found if entry.benchmark == name}) for name in tests},
        "by_id": len({entry.image_id for entry in found if entry.found_by == "id"}),
        "by_looks": len({entry.image_id for entry in found if entry.found_by == "looks"}),
    }


def read_listed(folder: Path) -> set[str]:
    """Ids of the images that a decontamination lists.

    Raises:
        InputError: there is no list, or it is something else.
    """
    path = folder / LIST_FILE
    try:
        return {str(entry["image_id"]) for entry in json.loads(path.read_text(encoding="utf-8"))}
    except (FileNotFoundError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path} is no list of test images ({error!r}); run the decontamination of this bucket"
        ) from None


def _order(entry: Occurrence) -> tuple[str, ...]:
    return (entry.image_id, entry.benchmark, entry.found_by, entry.test_image)


def _test_images(ctx: StageContext, benchmark: str, tables: list[Path]) -> SmallImages:
    """The test images of a benchmark, from a cache that all buckets share; a replaced image changes the manifest of its table. Those that
    cannot be read may be back next time."""
    root = image_root(ctx, benchmark)
    key = digest_json([LOOK_VERSION, str(root.resolve()), [sha256_folder(table) for table in tables]])[:32]
    path = ctx.shared / "thumbnails" / f"{benchmark}-{key}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        images = SmallImages.load(path) if path.exists() else None
        if images is None or images.unreadable:
            ctx.log.info(f"reading the test images of {benchmark}")
            for outdated in path.parent.glob(f"{benchmark}-*.npz"):
                outdated.unlink()
            rows = [scene for table in tables for scene in read_scenes(table) if scene.split == "test"]
            images = SmallImages.of(rows, root, images)
            images.save(path)
    return images


def _keys(dataset: str, scenes: Iterable[Scene], facts: Path | None) -> dict[str, ImageKey]:
    """Return the key of each image by id. Visual Genome names the COCO image of many of its own, in a file that some copies lack: these are
    then found by their looks alone."""
    twins = (read_facts(facts).coco_ids if facts else None) or {}
    return {
        scene.image_id: image_key("coco", twins[scene.image_id])
        if scene.image_id in twins
        else image_key(dataset, scene.image_id)
        for scene in scenes
    }


def _by_id(
    scenes: Iterable[Scene], keys: Mapping[str, ImageKey], benchmark: str, twins: SmallImages
) -> Iterable[Occurrence]:
    tests = {image_key(benchmark, image_id): image_id for image_id in twins.ids}
    for scene in scenes:
        if (twin := tests.get(keys[scene.image_id])) is not None:
            yield Occurrence(scene.image_id, scene.file_name, benchmark, twin, "id", None)


def _by_looks(
    shards: Iterable[FinishedShard], benchmark: str, twins: SmallImages, least: float
) -> Iterable[Occurrence]:
    for shard in shards:
        own = SmallImages.load(shard.folder / _FILE)
        for i, j, likeness in alike(own.thumbnails, twins.thumbnails, least):
            image, twin = int(own.places[i]), int(twins.places[j])
            yield Occurrence(own.ids[image], own.files[image], benchmark, twins.ids[twin], "looks", round(likeness, 3))
