"""`rlip predict`: photos in, readable JSON and an overlay picture out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlip_assets.storage.drawing import draw_triplets
from rlip_assets.storage.errors import DataError, InputError, ParameterError
from rlip_assets.storage.files import write_json
from rlip_assets.storage.images import BadImageError, open_image, save_picture
from rlip_assets.storage.outputs import OutputFolder, output_file
from rlip_model.triplets import Triplet

if TYPE_CHECKING:
    from rlip_assets.inference.relation_detector import RelationDetector

DEFAULT_CHECKPOINTS = ("data/models/finetune/hico_full", "data/models/pretrain/vg_coco_o365")
"""Where a run of the lineage leaves checkpoints, best for photos first; relative to the profile's root."""


def find_checkpoint(root: Path) -> Path:
    """The checkpoint that the lineage under `root` made.

    Raises:
        InputError: there is none yet; the sentence says how to get one.
    """
    for candidate in DEFAULT_CHECKPOINTS:
        if (root / candidate / "config.json").is_file():
            return root / candidate
    raise InputError(
        "There is no model yet: run `make demo` to train one on the micro world, or `rlip import-checkpoint FILE.pth DIR` "
        "for an official one, and name its folder with --model"
    )


def split_texts(text: str | None) -> list[str] | None:
    """`"riding, sitting on"` -> `["riding", "sitting on"]`; None stays None."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def predict_photos(
    detector: RelationDetector,
    photos: Sequence[Path],
    folder: Path,
    objects: Sequence[str] | None = None,
    relations: Sequence[str] | None = None,
    threshold: float = 0.1,
    limit: int = 10,
    vocabulary: str | None = None,
) -> Iterator[Path | BadImageError]:
    """Find relations in each photo and write `NAME.json` and `NAME.relations.png` into `folder`.

    Yields:
        The files as they are written, two per photo, in the order of `photos`; for a photo that cannot be read, why.

    Raises:
        ParameterError: two photos would write the same files, `folder` is no new folder and none of earlier predictions, or
            an unknown vocabulary.
    """
    names = [(f"{photo.stem}.json", f"{photo.stem}.relations.png") for photo in photos]
    if len(set(names)) != len(names):
        raise ParameterError(
            "Two photos have the same name and would overwrite each other's results: predict them into different folders"
        )
    outputs = OutputFolder(folder, "predict")
    outputs.check([name for pair in names for name in pair])
    note = f"trained on {detector.trained_on}" if detector.trained_on else ""
    for photo, (record, overlay) in zip(photos, names, strict=True):
        try:
            image = open_image(photo)
        except BadImageError as error:
            yield error
            continue
        triplets = detector([image], objects, relations, threshold, limit, vocabulary)[0]
        content = {
            "photo": photo.name,
            "width": image.width,
            "height": image.height,
            "model": detector.name,
            "trained_on": detector.trained_on,
            "threshold": threshold,
            "relations": [triplet.as_dict() for triplet in triplets],
        }
        with outputs.file(record) as target:
            write_json(target, content)
        yield folder / record
        with outputs.file(overlay) as target:
            save_picture(target, draw_triplets(image, triplets, detector.name, note, limit))
        yield folder / overlay


def read_triplets(file: Path) -> list[Triplet]:
    """The `relations` of a JSON file as `rlip predict` writes it, or as a person does.

    Raises:
        DataError: no JSON, or a relation that lacks a field or has a box that is not four numbers; names file and relation.
    """
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is no JSON file: {error}") from None
    rows = content.get("relations") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise DataError(f"{file} has no list `relations`: give a file as `rlip predict` writes it")
    triplets = []
    for number, row in enumerate(rows, start=1):
        try:
            triplets.append(Triplet.from_dict(row))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{file}: relation {number} needs subject, relation, object, subject_box, object_box and score; "
                f"boxes are [x1, y1, x2, y2] in pixels ({type(error).__name__}: {error})"
            ) from None
    return triplets


def draw_file(photo: Path, file: Path, overlay: Path, limit: int = 10) -> None:
    """Draw the relations of `file` (see `read_triplets`) on a photo and write the picture.

    Raises:
        DataError: the file is none of relations. BadImageError: the photo cannot be read.
    """
    triplets, content = read_triplets(file), json.loads(file.read_text())
    trained_on = content.get("trained_on")
    note = f"trained on {trained_on}" if trained_on else ""
    page = draw_triplets(open_image(photo), triplets, str(content.get("model") or file.name), note, limit)
    with output_file(overlay, "draw", b"Software\0rlip draw", [photo, file]) as target:
        save_picture(target, page, "rlip draw")
