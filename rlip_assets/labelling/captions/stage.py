"""The stage `captions`: N captions of every image of a bucket, shard by shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from rlip_assets.datasets.scenes import Scene, read_scenes, table_digest
from rlip_assets.datasets.sources.bucket_images import BucketImages
from rlip_assets.datasets.sources.roots import raw_root
from rlip_assets.labelling.image_shards import Unreadable, close_account, make_shards, unreadable, write_unreadable
from rlip_assets.labelling.label_tables import CaptionRow, read_rows, write_rows
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.params.labels import CaptionParams
from rlip_assets.lineage.shard_progress import rows_done
from rlip_assets.lineage.shards import add_figures, collect, split
from rlip_assets.storage.errors import DataError
from rlip_assets.storage.files import sha256_folder
from rlip_assets.storage.images import BadImageError, open_image
from rlip_assets.training.micro_batches import MicroBatches

_FILE = "captions.parquet"
_PICTURES = 3
_WIDTH, _LINE, _MARGIN = 480, 18, 8
"""Pixels of a picture with its captions."""
Captions = Callable[[Sequence[Scene], Sequence[Image.Image]], list[list[str]]]
"""Scenes and images of a batch to the captions of each image."""
CaptionWriter = Callable[[Sequence[str], Sequence[Image.Image]], list[list[str]]]
"""The interface of captioners: ids and RGB images to the captions of each image, the same whatever else is in the batch. A batch with an
image that it cannot caption raises BadImageError."""


def caption_stage(ctx: StageContext) -> dict[str, Any]:
    """Caption the images of one bucket with BLIP or another image-text-to-text model.

    Inputs: `scenes`, `manifest` (which file each image is) and `captioner` (unless `captions.model` is a hub name). Output:
    `captions`, with `quarantine.parquet`: images in = rows out + quarantined.

    Raises:
        InputError: no captioner, a damaged scene table, or an image that is not the one of the manifest.
        DataError: more images are unreadable than `captions.quarantine_limit` allows.
    """
    params = ctx.params.captions
    source = str(ctx.inputs.get("captioner") or params.model)
    return caption_bucket(ctx, _Model(source, params, ctx.params.training.device), _identity(source))


def caption_bucket(ctx: StageContext, captions: Captions, identity: Mapping[str, str]) -> dict[str, Any]:
    """Caption the images of one bucket; see `caption_stage`.

    Args:
        captions: makes the captions of a batch; picklable where `execution` spreads shards over processes.
        identity: digests of whatever else `captions` depends on; finished shards are found again by them.
    """
    params = ctx.params.captions
    dataset = (ctx.partition or "").rpartition("-")[0]
    root = raw_root(ctx.params.sources, dataset, ctx.root)
    ctx.log.dataset(f"{dataset} scenes", ctx.inputs["scenes"], table_digest(ctx.inputs["scenes"]))

    scenes = list(read_scenes(ctx.inputs["scenes"]))
    images = BucketImages.of(ctx.inputs["manifest"], root, scenes, ctx.inputs["scenes"])

    def content(scene: Scene) -> list[object]:
        return [scene.image_id, scene.file_name, images.checksum(scene), scene.width, scene.height]

    shards = split(scenes, params.rows_per_shard, lambda scene: scene.image_id, content)
    settings = {"params": params.model_dump(mode="json"), **identity}
    finished, quarantine = make_shards(ctx, settings, shards, _Captioning(captions, params, images))
    collect(finished, ctx.outputs["captions"], _FILE)
    figures = add_figures(shard.figures for shard in finished)
    close_account(
        ctx.outputs["captions"], ctx.work, quarantine, len(scenes), figures["images"], params.quarantine_limit
    )
    _show(ctx, scenes, root)
    return {"input": len(scenes), **figures, "quarantined": len(quarantine)}


def caption_scenes(
    captioner: Captions, scenes: Sequence[Scene], images: BucketImages, batches: MicroBatches
) -> tuple[list[CaptionRow], Unreadable]:
    """Caption readable images in batches of exactly `batches.size`, the last one filled up, so that every image is computed in
    tensors of the same shape. Returns rows in the order of `scenes`, and the unreadable ones with reasons.

    Raises:
        InputError: memory is too small for one image.
        DataError: the captioner gives something else than texts for each image.
    """
    rows: list[CaptionRow] = []
    left_out: Unreadable = []
    waiting: list[tuple[Scene, Image.Image]] = []

    def work(part: Sequence[tuple[Scene, Image.Image]]) -> list[list[str]]:
        texts = captioner([scene for scene, _ in part], [image for _, image in part])
        if [type(each) for each in texts] != [list] * len(part) or not all(
            isinstance(text, str) for each in texts for text in each
        ):
            raise DataError(
                f"the captioner gives no list of texts for each of {len(part)} images, of which {part[0][0].image_id} is the first; "
                "see CaptionWriter in rlip_assets/labelling/captions/stage.py"
            )
        return texts

    def caption(part: list[tuple[Scene, Image.Image]]) -> None:
        try:
            texts = batches(work, part + [part[-1]] * (batches.size - len(part)))
        except BadImageError as error:
            if len(part) > 1:
                for one in part:
                    caption([one])
            else:
                left_out.append(unreadable(part[0][0], error))
            return
        rows.extend(CaptionRow(scene.image_id, captions) for (scene, _), captions in zip(part, texts, strict=False))

    def flush() -> None:
        if waiting:
            caption(list(waiting))
            rows_done(len(waiting))
            waiting.clear()

    for scene in scenes:
        try:
            image = images.open(scene)
        except BadImageError as error:
            left_out.append(unreadable(scene, error))
            rows_done()
            continue
        waiting.append((scene, image))
        if len(waiting) == batches.size:
            flush()
    flush()
    return rows, left_out


@dataclass
class _Captioning:
    """Makes shards."""

    captions: Captions
    params: CaptionParams
    images: BucketImages

    def __post_init__(self) -> None:
        remedy = "lower captions.captions_per_image (captions.beams of a beam search)"
        self._batches = MicroBatches(self.params.batch_size, remedy)

    def __call__(self, scenes: list[Scene], folder: Path) -> dict[str, Any]:
        rows, left_out = caption_scenes(self.captions, scenes, self.images, self._batches)
        write_rows(folder / _FILE, CaptionRow, rows)
        write_unreadable(folder, left_out)
        captions = [caption for row in rows for caption in row.captions]
        return {
            "images": len(rows),
            "captions": len(captions),
            "empty_captions": sum(not caption for caption in captions),
            "different_captions": sum(len(set(row.captions)) for row in rows),
            "words": sum(len(caption.split()) for caption in captions),
        }


@dataclass
class _Model:
    """The captions of a model, opened at the first batch: a run that finds all shards needs none."""

    source: str
    params: CaptionParams
    device: str
    opened: CaptionWriter | None = None

    def __call__(self, scenes: Sequence[Scene], images: Sequence[Image.Image]) -> list[list[str]]:
        if self.opened is None:
            self.opened = open_captioner(self.source, self.params, self.device)
        return self.opened([scene.image_id for scene in scenes], images)


def open_captioner(source: str, params: CaptionParams, device: str) -> CaptionWriter:
    """Open the captioner of a folder or hub name: BLIP with its published sampler, every other family by instruction.

    Raises:
        InputError: no captioner there.
    """
    from rlip_assets.labelling.captions.captioner import Captioner
    from rlip_assets.labelling.captions.image_text_captioner import ImageTextCaptioner
    from rlip_assets.labelling.image_text_model import model_type
    from rlip_assets.training.processes import choose_device

    family = Captioner if model_type(source) == "blip" else ImageTextCaptioner
    return family.open(source, params, choose_device(device))


def _identity(source: str) -> dict[str, str]:
    """Return what captions follow from beside the parameters: the model, and for other families than BLIP the version of their decoding,
    which in the first one took settings from the model's generation_config.json."""
    from rlip_assets.labelling.image_text_model import model_type

    decoding = {} if model_type(source) == "blip" else {"decoding": "2"}
    return {"model": model_digest(source), **decoding}


def model_digest(source: str) -> str:
    """Return what identifies a captioner's weights: the digest of a folder, or the name on the hub."""
    folder = Path(source)
    return sha256_folder(folder, ignore=("record.json",)) if folder.is_dir() else f"hub:{source}"


def _show(ctx: StageContext, scenes: Sequence[Scene], root: Path) -> None:
    """Show a few images with their captions in the log."""
    by_id = {scene.image_id: scene for scene in scenes}
    for number, row in enumerate(islice(read_rows(ctx.outputs["captions"], CaptionRow), _PICTURES)):
        scene = by_id[row.image_id]
        ctx.log.picture(f"captions-{number}", _captioned(open_image(root / scene.file_name), row.captions))


def _captioned(image: Image.Image, captions: Sequence[str]) -> Image.Image:
    """Return the image above its captions, the most frequent first, each with its count."""
    scale = _WIDTH / image.width
    photo = image.convert("RGB").resize((_WIDTH, max(1, round(image.height * scale))), Image.Resampling.BICUBIC)
    lines = [f"{count}x  {text}" if count > 1 else text for text, count in Counter(captions).most_common()]
    picture = Image.new("RGB", (_WIDTH, photo.height + 2 * _MARGIN + _LINE * len(lines)), (255, 255, 255))
    picture.paste(photo)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for number, line in enumerate(lines):
        pen.text((_MARGIN, photo.height + _MARGIN + number * _LINE), line, fill=(20, 20, 20), font=font)
    return picture
