"""The stage `pseudo_labels`: candidates of a bucket scored by a relation source, filtered, and written as a scene table.

Scores are kept shard by shard before thresholds and filters, so that a change of those runs no network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlip_assets.datasets.decontamination import read_listed
from rlip_assets.datasets.scenes import (
    Scene,
    finish_table,
    read_scenes,
    scene_hash,
    table_digest,
    write_part,
)
from rlip_assets.datasets.sources.bucket_images import BucketImages
from rlip_assets.datasets.sources.classes import read_classes
from rlip_assets.datasets.sources.roots import raw_root
from rlip_assets.labelling.calibration.curves import CALIBRATION_FILE, Calibration, read_calibration
from rlip_assets.labelling.candidates import most_frequent
from rlip_assets.labelling.captions.stage import model_digest
from rlip_assets.labelling.image_shards import Unreadable, close_account, make_shards, unreadable, write_unreadable
from rlip_assets.labelling.label_tables import CandidateRow, read_rows
from rlip_assets.labelling.tagging.changes import compare_labels, keep_labels, last_labels
from rlip_assets.labelling.tagging.filters import Labels, at_least, deduplicate, overlapping, top_k
from rlip_assets.labelling.tagging.pair_judge import PairJudge, check_answers, count_unscored, judge_scenes
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.params.labels import TaggingParams
from rlip_assets.lineage.shard_progress import rows_done
from rlip_assets.lineage.shards import FinishedShard, Shard, add_figures, part_name, split
from rlip_assets.storage.drawing import draw_triplets
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.files import atomic_file, sha256_file, sha256_folder, write_json
from rlip_assets.storage.images import BadImageError
from rlip_assets.storage.quarantine import Quarantine

if TYPE_CHECKING:
    from rlip_assets.labelling.tagging.candidate_tagger import CandidateTagger
    from rlip_assets.lineage.recipes import Augmentation
    from rlip_model.boxes import Box

_SCORES = "scores.parquet"
_LISTED, _PICTURES, _DRAWN = 200, 3, 8
_FILTERS = ("calibration", "store_threshold", "top_k", "overlap_filter", "exclude", "quarantine_limit")
"""Parameters that are applied to stored scores."""
_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("subject", pa.list_(pa.int32()), nullable=False),
        pa.field("object", pa.list_(pa.int32()), nullable=False),
        pa.field("relation", pa.list_(pa.string()), nullable=False),
        pa.field("confidence", pa.list_(pa.float32()), nullable=False),
    ]
)
Item = tuple[Scene, CandidateRow]


def tagging_stage(ctx: StageContext) -> dict[str, Any]:
    """Tag one bucket.

    Inputs: `candidates`, `scenes`, `manifest` (which file each image is), `classes`, `r_tagger` unless `tagging.source` is another,
    `decontamination` where images may be those of a test split, and `calibration` where scores are calibrated. Output: `pseudo_labels`, a
    scene table whose triplets have confidences, one row for each image with captions that could be read and is not excluded, and
    `quarantine.parquet`.

    Raises:
        InputError: no R-Tagger, a damaged table, a list of excluded images that does not exist, an image that is not the one of the
            manifest, or a calibration of another R-Tagger.
        DataError: candidates made from other boxes than those of the scene table, too many unreadable images, or no answers.
    """
    params = ctx.params.tagging
    dataset = (ctx.partition or "").rpartition("-")[0]
    root = raw_root(ctx.params.sources, dataset, ctx.root)
    excluded = read_excluded(params.exclude)
    if listed := ctx.inputs.get("decontamination"):
        excluded |= read_listed(listed)
    items = [item for item in _paired(ctx) if item[0].image_id not in excluded]
    ctx.log.dataset(f"{dataset} scenes", ctx.inputs["scenes"], table_digest(ctx.inputs["scenes"]))

    images = BucketImages.of(ctx.inputs["manifest"], root, (scene for scene, _ in items), ctx.inputs["scenes"])

    def content(item: Item) -> list[object]:
        scene, row = item
        image = [scene.file_name, images.checksum(scene), scene.width, scene.height]
        return [*image, row.scene_hash, row.subject, row.object, row.relation, row.surface]

    shards = split(items, params.rows_per_shard, lambda item: item[0].image_id, content)
    tagger = ctx.inputs["r_tagger"] if params.source == "r_tagger" else None
    model = str(ctx.inputs.get("tagging_model") or params.model)
    settings: dict[str, Any] = {
        "params": params.model_dump(mode="json", exclude=set(_FILTERS)),
        "classes": sha256_file(ctx.inputs["classes"]),
        "tagger": tagger_digest(tagger) if tagger else model_digest(model),
    }
    if params.groups == "published":
        settings |= {"store_threshold": params.store_threshold, "order": "pairs"}
    if not tagger:
        settings["answers"] = 2  # the first ones of BART's kin were of the token before an answer
    calibration = _calibration(ctx, settings["tagger"])
    make = _Tagging(tagger, model, ctx.inputs["classes"], params, ctx.params.training.device, images)
    finished, quarantine = make_shards(ctx, settings, shards, make)
    if not tagger:
        check_answers(add_figures(done.figures for done in finished), model)
    figures = _write_table(ctx, shards, finished, quarantine, images, calibration) | {"excluded": len(excluded)}
    _report_changes(ctx)
    return figures


def tagger_digest(checkpoint: Path) -> str:
    """Return what identifies an R-Tagger: the digest of its folder."""
    return sha256_folder(checkpoint, ignore=("manifest.json",))


def _calibration(ctx: StageContext, tagger: str) -> Calibration | None:
    """The calibration of the scores, where they have one; another R-Tagger's would be wrong without a sign of it."""
    folder = ctx.inputs.get("calibration")
    if folder is None:
        return None
    fitted = read_calibration(folder / CALIBRATION_FILE)
    if fitted.tagger != tagger:
        raise InputError(f"{folder / CALIBRATION_FILE} is of another R-Tagger; run the stage 'calibration' first")
    return fitted


def _report_changes(ctx: StageContext) -> None:
    """Tell the log what the labels differ in from the last ones of this bucket, and keep them for the next run."""
    kept, digest = ctx.work.parent / "last" / (ctx.partition or "all"), ctx.work.name
    before = last_labels(kept, digest)
    if before is None:
        ctx.log.info("no labels of an earlier state to compare with")
    else:
        changes = compare_labels(before, read_scenes(ctx.outputs["pseudo_labels"]))
        ctx.log.info(
            f"against the last labels: {changes['added']} added, {changes['removed']} removed, "
            f"{changes['moved']} of {changes['kept']} kept ones moved"
        )
        ctx.log.metrics({f"changes/{name}": value for name, value in changes.items() if isinstance(value, int | float)})
        write_json(ctx.work / "changes.json", changes)
        ctx.log.artifact(ctx.work / "changes.json")
    keep_labels(kept, digest, ctx.outputs["pseudo_labels"])


def _paired(ctx: StageContext) -> list[Item]:
    """Candidates with their scenes; the scene must be the one that the candidates were made from."""
    scenes = {scene.image_id: scene for scene in read_scenes(ctx.inputs["scenes"])}
    items = []
    for row in read_rows(ctx.inputs["candidates"], CandidateRow):
        scene = scenes.get(row.image_id)
        if scene is None or scene_hash(scene) != row.scene_hash:
            raise DataError(
                f"{ctx.inputs['candidates']} has candidates of image {row.image_id} for other boxes than those of "
                f"{ctx.inputs['scenes']}; run the candidates of this bucket again"
            )
        items.append((scene, row))
    return items


def read_excluded(files: Iterable[str]) -> set[str]:
    """Return the image ids of the given files, one per line.

    Raises:
        InputError: a file that does not exist.
    """
    ids: set[str] = set()
    for file in files:
        try:
            ids.update(line.strip() for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip())
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"tagging.exclude names {file}, which cannot be read ({error}); write one image id per line into it"
            ) from None
    return ids


Scoring = Callable[[Sequence[Item], BucketImages], tuple[list[tuple[str, Labels]], Unreadable]]


@dataclass
class _Tagging:
    """Makes shards; opens the relation source at the first one."""

    checkpoint: Path | None
    model: str
    classes: Path
    params: TaggingParams
    device: str
    images: BucketImages
    opened: Scoring | None = None

    def __call__(self, rows: list[Item], folder: Path) -> dict[str, Any]:
        self.opened = self.opened or self._open()
        scores, left_out = self.opened(rows, self.images)
        _write_scores(folder / _SCORES, scores)
        write_unreadable(folder, left_out)
        figures = {"scored": sum(len(labels) for _, labels in scores)}
        if not self.checkpoint:
            figures |= count_unscored(rows, scores)
        return figures

    def _open(self) -> Scoring:
        if self.checkpoint:
            objects = read_classes(self.classes).objects
            return partial(tag_scenes, *open_tagger(self.checkpoint, objects, self.params, self.device))
        from rlip_assets.labelling.image_text_model import ImageTextModel
        from rlip_assets.training.processes import choose_device

        model = ImageTextModel.open(self.model, choose_device(self.device))
        return partial(judge_scenes, PairJudge(model, self.params.question))


def open_tagger(
    checkpoint: Path, objects: Sequence[str], params: TaggingParams, device: str
) -> tuple[CandidateTagger, Augmentation]:
    """The tagger of a checkpoint folder for the object texts of a dataset, and the image size that it was trained for.

    Raises:
        InputError: no checkpoint there, or one of a network that is no tagger.
    """
    from rlip_assets.labelling.tagging.candidate_tagger import CandidateTagger
    from rlip_assets.lineage.recipes import Augmentation
    from rlip_assets.training.processes import choose_device
    from rlip_model import load_checkpoint

    try:
        loaded = load_checkpoint(checkpoint, choose_device(device))
    except ValueError as error:
        raise InputError(str(error)) from None
    if not loaded.config.tagger:
        raise InputError(
            f"{checkpoint} is a {loaded.config.anchors} detector, not an R-Tagger; give the folder of an R-Tagger"
        )
    try:
        stored = (loaded.metadata.get("recipe") or {}).get("augmentation", {})
        # Checkpoints made by an earlier version name fields that are no longer there.
        sizes = Augmentation.model_validate({k: v for k, v in stored.items() if k in Augmentation.model_fields})
    except (AttributeError, ValueError):
        raise InputError(f"{checkpoint}/metadata.json: recipe.augmentation is damaged; restore the file") from None
    return CandidateTagger(loaded, objects, params), sizes


def tag_scenes(
    tagger: CandidateTagger, sizes: Augmentation, items: Sequence[Item], files: BucketImages
) -> tuple[list[tuple[str, Labels]], Unreadable]:
    """Scores of every readable image, in the order of `items`, and the unreadable ones with reasons.

    Images of similar shape share a forward pass; those without candidates are read by nobody. The scores are the same to the bit whatever
    the tagger scored before: shards are made in any order, by any process.

    Raises:
        DataError: a score is no number.
    """
    from rlip_assets.labelling.tagging.candidate_tagger import TaggingImage
    from rlip_assets.training.transforms import for_evaluation
    from rlip_model.vision.images import image_tensor

    tagger.forget_texts()
    scores = {scene.image_id: Labels.of([], [], [], []) for scene, _ in items}
    left_out: Unreadable = []
    images: list[TaggingImage] = []
    for scene, row in sorted(items, key=lambda item: (item[0].width / item[0].height, item[0].image_id)):
        if not row.relation:
            rows_done()
            continue
        try:
            photo = files.open(scene)
        except BadImageError as error:
            left_out.append(unreadable(scene, error))
            del scores[scene.image_id]
            rows_done()
            continue
        images.append(TaggingImage(scene, row, image_tensor(for_evaluation((photo, scene), sizes)[0])))
    for batch in tagger.batches(images):
        for image, labels in zip(batch, tagger.tag(batch), strict=True):
            if not np.isfinite(labels.confidence).all():
                raise DataError(
                    f"the R-Tagger gives no number for a candidate of image {image.scene.image_id}: its training diverged or "
                    "its precision overflows; train it again with a lower lr"
                )
            scores[image.scene.image_id] = labels
        rows_done(len(batch))
    return list(scores.items()), sorted(left_out, key=lambda entry: entry["image_id"])


def _write_scores(path: Path, scores: Sequence[tuple[str, Labels]]) -> None:
    columns = {
        "image_id": [image_id for image_id, _ in scores],
        "subject": [labels.subject for _, labels in scores],
        "object": [labels.object for _, labels in scores],
        "relation": [list(labels.relation) for _, labels in scores],
        "confidence": [labels.confidence for _, labels in scores],
    }
    with atomic_file(path) as temporary:
        pq.write_table(pa.table(columns, _SCHEMA), temporary, compression="zstd", write_statistics=False)


def _read_scores(path: Path) -> dict[str, Labels]:
    rows = pq.read_table(path).to_pylist()
    return {r["image_id"]: Labels.of(r["subject"], r["object"], r["relation"], r["confidence"]) for r in rows}


def filtered(labels: Labels, scene: Scene, params: TaggingParams, calibration: Calibration | None = None) -> Labels:
    """Return the labels of an image that are stored, the most confident first: the filters of `params`.

    A calibration comes before the threshold and after all that ranks: scores that it brings so near each other that float32 makes them
    equal keep their order.

    Published groups repeat a label for each entry of its pair, and each repetition counts in the frequencies of relations (quirk 42).
    """
    kept = labels.ranked() if params.groups == "published" else deduplicate(labels)
    if params.overlap_filter:
        kept = overlapping(kept, scene.boxes)
    kept = top_k(kept, params.top_k)
    if calibration is not None:
        kept = replace(kept, confidence=calibration(kept.confidence))
    return at_least(kept, params.store_threshold)


def labelled(scene: Scene, labels: Labels) -> Scene:
    """Return the scene with pseudo labels in the place of its triplets."""
    return replace(
        scene,
        subject=labels.subject,
        object=labels.object,
        relation=labels.relation,
        confidence=labels.confidence,
    )


def _write_table(
    ctx: StageContext,
    shards: Sequence[Shard[Item]],
    finished: Sequence[FinishedShard],
    quarantine: Quarantine,
    files: BucketImages,
    calibration: Calibration | None,
) -> dict[str, Any]:
    """Filter the scores and write the parts of the table, one per shard."""
    params, output = ctx.params.tagging, ctx.outputs["pseudo_labels"]
    by_relation = Counter[str]()
    total = Counter[str](images=0, labels=0, images_without_label=0)
    deciles = np.zeros(10, np.int64)
    drawn = 0
    for number, (shard, done) in enumerate(zip(shards, finished, strict=True)):
        scores = _read_scores(done.folder / _SCORES)
        scenes = []
        for scene, _ in shard.rows:
            if scene.image_id not in scores:
                continue
            labels = filtered(scores[scene.image_id], scene, params, calibration)
            scenes.append(labelled(scene, labels))
            total.update(images=1, labels=len(labels), images_without_label=not len(labels))
            by_relation.update(labels.relation)
            deciles += np.bincount(np.minimum((labels.confidence * 10).astype(np.int64), 9), minlength=10)
            if drawn < _PICTURES and len(labels):
                _draw(ctx, files, scene, labels, drawn)
                drawn += 1
        write_part(output / part_name(number), scenes)
    images = sum(len(shard.rows) for shard in shards)
    close_account(output, ctx.work, quarantine, images, total["images"], params.quarantine_limit)
    finish_table(output)
    return {
        "input": images,
        **add_figures(done.figures for done in finished),
        **total,
        "quarantined": len(quarantine),
        "confidence_deciles": deciles.tolist(),
        "by_relation": most_frequent(by_relation, _LISTED),
    }


def _draw(ctx: StageContext, files: BucketImages, scene: Scene, labels: Labels, number: int) -> None:
    """Show an image with its most confident labels in the log."""
    from rlip_model.triplets import Triplet

    best = labels.take(range(min(_DRAWN, len(labels))))
    triplets = [
        Triplet(scene.labels[s], relation, scene.labels[o], _box(scene, s), _box(scene, o), score)
        for s, o, relation, score in zip(
            best.subject.tolist(), best.object.tolist(), best.relation, best.confidence.tolist(), strict=True
        )
    ]
    source = ctx.params.tagging.model or "R-Tagger"
    ctx.log.picture(f"pseudo-labels-{number}", draw_triplets(files.open(scene), triplets, source))


def _box(scene: Scene, entity: int) -> Box:
    x1, y1, x2, y2 = scene.boxes[entity].tolist()
    return x1, y1, x2, y2
