"""The two stages of a raw dataset: `raw_manifest` (its files, listed) and `scenes` (one table per bucket)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlip_assets.datasets.scenes import Scene, finish_table, write_part
from rlip_assets.datasets.sources.boxes import check_boxes
from rlip_assets.datasets.sources.checked_scene import checked_scene
from rlip_assets.datasets.sources.classes import Classes, read_classes
from rlip_assets.datasets.sources.manifests import (
    Manifest,
    ManifestImage,
    read_manifest,
    record_digest,
    write_manifest,
)
from rlip_assets.datasets.sources.raw_folder import OBSERVED, folder_state
from rlip_assets.datasets.sources.readers import RawImage, Reader, RecordError
from rlip_assets.datasets.sources.record_index import RecordIndex, Rejected
from rlip_assets.datasets.sources.roots import fetch_root, open_reader, source_params
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.shard_progress import rows_done
from rlip_assets.lineage.shards import ShardStore, add_figures, collect, split
from rlip_assets.storage.checksums import Checksums
from rlip_assets.storage.errors import DataError, InputError, ParameterError
from rlip_assets.storage.files import write_json
from rlip_assets.storage.images import BadImageError
from rlip_assets.storage.quarantine import Quarantine

ROWS_PER_SHARD = 1000
SHARD_TABLE = "scenes.parquet"
_REPORTED = 100
"""Images that are checksummed between two reports of the progress."""


def raw_manifest_stage(ctx: StageContext) -> dict[str, Any]:
    """List a raw dataset by bucket.

    Reads the annotation files and checksums the images of the dataset `ctx.partition`; writes `bucket-K.json` for each
    bucket, `classes.json` and, for Visual Genome, `facts.json` to the output folder "manifests". A rehearsal lists its first images of each
    split.

    Raises:
        InputError: the root or an annotation file is missing or damaged, or the dataset is empty.
    """
    dataset = ctx.partition or ""
    params = source_params(ctx.params.sources, dataset)
    fetch_root(ctx.params.sources, dataset, ctx.root, ctx.log)
    reader = open_reader(ctx.params.sources, dataset, ctx.root)
    ctx.observed[OBSERVED] = folder_state(reader.root)
    index = RecordIndex(reader, params.buckets, _cache(ctx))
    folder, limit = ctx.outputs["manifests"], ctx.params.rehearsal and ctx.params.rehearsal.images
    tally: Counter[str] = Counter()
    figures: Counter[str] = Counter(images=0, rejected=0, missing_files=0, bytes=0)
    with _checksums(ctx, reader) as checksums:
        for bucket in range(params.buckets):
            images: list[ManifestImage] = []
            rejected: list[Rejected] = []
            for raw in index.images(bucket):
                if isinstance(raw, Rejected):
                    rejected.append(raw)
                    continue
                if limit and figures[f"images_{raw.split}"] >= limit:
                    figures["left_out_by_rehearsal"] += 1
                    continue
                reader.observe(raw, tally)
                size, checksum = checksums.of(raw.file_name)
                images.append(ManifestImage(raw.image_id, raw.split, raw.file_name, size, checksum, record_digest(raw)))
                figures[f"images_{raw.split}"] += 1
                figures["missing_files"] += checksum is None
                figures["bytes"] += size or 0
                if len(images) % _REPORTED == 0:
                    seen = figures["images"] + len(images) + index.unused.total()
                    ctx.log.progress(min(seen, index.listed), index.listed, "images")
            figures["images"] += len(images)
            figures["rejected"] += len(rejected)
            write_manifest(
                folder / f"bucket-{bucket}.json",
                Manifest(dataset, bucket, params.buckets, tuple(images), tuple(rejected)),
            )
    ctx.log.progress(index.listed, index.listed, "images")
    if not figures["images"] + figures["rejected"]:
        raise InputError(
            f"{reader.root} lists no usable image of {dataset}; fetch the annotation files of the whole dataset"
        )
    classes = reader.classes(tally)
    write_json(folder / "classes.json", classes.model_dump(mode="json"))
    if (facts := reader.facts()) is not None:
        write_json(folder / "facts.json", facts.model_dump(mode="json"))
    return {
        **figures,
        "unused": index.unused.total(),
        "objects": len(classes.objects),
        "relations": len(classes.relations or ()),
        "interactions": len(classes.hois or ()),
        "rare": len(classes.rare),
    }


def scenes_stage(ctx: StageContext) -> dict[str, Any]:
    """Make the scene table of one bucket.

    Every image of the manifest becomes a row of the output folder "scenes" or a row of its `quarantine.parquet`, with
    the reason: images = rows + quarantined. Images are decoded whole to find damage. Finished shards are kept, so that a
    killed run goes on where it was and new images are new work for their own shards only.

    Raises:
        InputError: the raw data is not the one that the manifest was made from.
        DataError: more images are unusable than `quarantine_limit` allows, or the table lost most of its boxes.
    """
    dataset, _, bucket = (ctx.partition or "").rpartition("-")
    params = source_params(ctx.params.sources, dataset)
    manifest, classes = read_manifest(ctx.inputs["manifest"]), read_classes(ctx.inputs["classes"])
    if (manifest.dataset, manifest.bucket, manifest.buckets) != (dataset, int(bucket or -1), params.buckets):
        raise ParameterError(
            f"{ctx.inputs['manifest']} is bucket {manifest.bucket} of {manifest.buckets} of {manifest.dataset}, "
            f"not bucket {bucket} of {params.buckets} of {dataset}; run the raw_manifest stage again"
        )
    reader = open_reader(ctx.params.sources, dataset, ctx.root)
    raws = {
        raw.image_id: raw
        for raw in RecordIndex(reader, params.buckets, _cache(ctx)).images(manifest.bucket)
        if isinstance(raw, RawImage)
    }
    images = list(manifest.images)
    settings = params.model_dump(mode="json", exclude={"root", "buckets", "quarantine_limit"})
    store = ShardStore.of(ctx, {"reader": settings, "objects": classes.objects, "relations": classes.relations})
    with _checksums(ctx, reader) as checksums:
        maker = _ShardMaker(reader, classes, raws, checksums)
        parts = split(images, ROWS_PER_SHARD, image_id=lambda image: image.image_id, content=asdict)
        shards = store.make_all(parts, maker.make, ctx.log, "images")
    figures = add_figures(shard.figures for shard in shards)
    quarantine = Quarantine()
    for row in manifest.rejected:
        quarantine.add(row.image_id, "", row.reason)
    for entry in figures["quarantined"]:
        quarantine.add(*entry)
    total = len(images) + len(manifest.rejected)
    if figures["images"] + len(quarantine) != total:
        raise DataError(f"{total} images went in, {figures['images']} came out and {len(quarantine)} were quarantined")
    folder = ctx.outputs["scenes"]
    quarantine.write(folder)
    quarantine.check(total, params.quarantine_limit, ctx.work)
    check_boxes(figures["boxes"], figures["rules"], f"the table of {ctx.partition}")
    collect(shards, folder, SHARD_TABLE)
    finish_table(folder)
    return {"input": total, **figures, "quarantined": len(quarantine)}


@dataclass(frozen=True)
class _ShardMaker:
    """Turns images of a manifest into a part of the table."""

    reader: Reader
    classes: Classes
    raws: Mapping[str, RawImage]
    checksums: Checksums

    def make(self, images: Sequence[ManifestImage], folder: Path) -> dict[str, Any]:
        """Write the part into `folder`; the figures tell what was kept, quarantined and changed by rules."""
        scenes: list[Scene] = []
        quarantined: list[tuple[str, str, str]] = []
        rules: Counter[str] = Counter()
        for image in images:
            changes: Counter[str] = Counter()
            try:
                scenes.append(self._scene(image, changes))
                rules += changes
            except BadImageError as error:
                quarantined.append((image.image_id, image.file_name, error.reason))
            except RecordError as error:
                reason = f"{error} ({self.raws[image.image_id].origin})"
                quarantined.append((image.image_id, image.file_name, reason))
            rows_done()
        write_part(folder / SHARD_TABLE, scenes)
        return {
            "images": len(scenes),
            "boxes": sum(len(scene.labels) for scene in scenes),
            "triplets": sum(len(scene.relation) for scene in scenes),
            "quarantined": quarantined,
            "rules": dict(rules),
        }

    def _scene(self, image: ManifestImage, rules: Counter[str]) -> Scene:
        """The row of one image, after its file was decoded and its size and names were checked."""
        raw = self.raws.get(image.image_id)
        if raw is None or record_digest(raw) != image.record:
            raise InputError(
                f"the annotation of image {image.image_id} of {self.reader.dataset} changed since its manifest was made; "
                "run the raw_manifest stage again"
            )
        if self.checksums.of(image.file_name)[1] != image.sha256:
            path = self.reader.root / image.file_name
            raise InputError(f"{path} changed since its manifest was made; run the raw_manifest stage again")
        return checked_scene(self.reader, raw, self.classes, rules)


def _cache(ctx: StageContext) -> Path:
    """Indices of annotation records and checksums, shared by all stages and buckets; can be deleted at any time."""
    return ctx.shared / "raw_index"


def _checksums(ctx: StageContext, reader: Reader) -> Checksums:
    return Checksums(_cache(ctx) / reader.dataset / "checksums.sqlite", reader.root)
