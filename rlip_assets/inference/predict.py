"""`rlip predict`: photos in, readable JSON and an overlay picture out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from rlip_assets.storage.drawing import draw_triplets
from rlip_assets.storage.errors import DataError, InputError, ParameterError
from rlip_assets.storage.files import write_json
from rlip_assets.storage.images import BadImageError, open_image, save_picture
from rlip_assets.storage.outputs import OutputFolder, output_file
from rlip_model.boxes import Box
from rlip_model.triplets import Triplet

if TYPE_CHECKING:
    from rlip_assets.inference.relation_detector import RelationDetector

DEFAULT_CHECKPOINTS = ("data/models/finetune/hico_full", "data/models/pretrain/vg_coco_o365")
"""Checkpoints of the lineage below the profile's root, best for photos first."""


def find_checkpoint(root: Path) -> Path:
    """Return the checkpoint of the lineage under `root`.

    Raises:
        InputError: there is none yet.
    """
    for candidate in DEFAULT_CHECKPOINTS:
        if (root / candidate / "config.json").is_file():
            return root / candidate
    raise InputError(
        "There is no model yet: run `make demo` to train one on the micro world, or `rlip import-checkpoint FILE.pth DIR` "
        "for an official one, and name its folder with --model"
    )


def split_texts(text: str | None) -> list[str] | None:
    """Split texts at commas: `"riding, sitting on"` -> `["riding", "sitting on"]`; None stays None."""
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
        Each file after it was written, two per photo, in the order of `photos`; the error for a photo that cannot be read.

    Raises:
        ParameterError: two photos have the same name, `folder` holds anything but predictions, or an unknown vocabulary.
    """
    names = [(f"{photo.stem}.json", f"{photo.stem}.relations.png") for photo in photos]
    if len(set(names)) != len(names):
        raise ParameterError(
            "Two photos have the same name, and so would their results: predict them into different folders"
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
            "photo": os.fsencode(photo.name).decode(errors="replace"),
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


def _ordered(box: Box) -> Box:
    if box[0] > box[2] or box[1] > box[3]:
        raise ValueError("x1 must not exceed x2, nor y1 y2")
    return box


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Pixels = Annotated[Box, AfterValidator(_ordered)]


class RelationRow(BaseModel):
    """One relation of a JSON file; see `Triplet`."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    subject: Text
    relation: Text
    object: str
    """May be empty where there is no object."""
    subject_box: Pixels
    object_box: Pixels | None
    score: Annotated[float, Field(ge=0, le=1)]

    @model_validator(mode="after")
    def _named(self) -> RelationRow:
        if self.object_box is not None and not self.object.strip():
            raise ValueError("an object with a box needs a text")
        return self


class RelationsFile(BaseModel):
    """A JSON file as `rlip predict` writes it, perhaps edited or written by hand."""

    relations: list[RelationRow]
    model: str = ""
    trained_on: str = ""


def read_relations(file: Path) -> tuple[RelationsFile, list[Triplet]]:
    """Read a JSON file of relations.

    Raises:
        DataError: no JSON, or a relation that lacks a field, or has an invalid box, text or score; names file, relation and field.
    """
    try:
        content = RelationsFile.model_validate_json(file.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = first["loc"]
        if first["type"] == "json_invalid":
            raise DataError(f"{file} is no JSON file ({first['msg']}): correct it") from None
        if place[:1] != ("relations",) or len(place) < 2:
            what = "no list `relations`" if place in ((), ("relations",)) else f"a wrong {place[0]} ({first['msg']})"
            raise DataError(f"{file} has {what}: give a file as `rlip predict` writes it") from None
        field = ".".join(map(str, place[2:])) or "it"
        raise DataError(
            f"{file}: relation {int(place[1]) + 1}: {field} is {first['input']!r:.80} ({first['msg']}): give subject, relation, object, "
            "subject_box, object_box and score; boxes are [x1, y1, x2, y2] in pixels"
        ) from None
    return content, [Triplet(**row.model_dump()) for row in content.relations]


def draw_file(photo: Path, file: Path, overlay: Path, limit: int = 10) -> None:
    """Draw the relations of `file` (see `read_relations`) on a photo and write the picture.

    Raises:
        DataError: the file holds no relations, or a box outside the photo. BadImageError: the photo cannot be read.
    """
    (content, triplets), image = read_relations(file), open_image(photo)
    for number, triplet in enumerate(triplets, start=1):
        for box in filter(None, (triplet.subject_box, triplet.object_box)):
            if box[2] < 0 or box[3] < 0 or box[0] > image.width or box[1] > image.height:
                size = f"{image.width} x {image.height} pixels"
                raise DataError(
                    f"{file}: relation {number} has the box {list(box)} outside {photo} ({size}): correct it"
                )
    note = f"trained on {content.trained_on}" if content.trained_on else ""
    page = draw_triplets(image, triplets, content.model or file.name, note, limit)
    with output_file(overlay, "draw", b"Software\0rlip draw", [photo, file]) as target:
        save_picture(target, page, "rlip draw")
