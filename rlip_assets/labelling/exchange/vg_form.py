"""The json of the published pre-training ("VG form"): a list of images with `objects` and `relationships`.

Released pseudo-label files are read into scene tables, and tables exported in this form. Names are single texts, boxes x y w h in
pixels, a relation with `confidence` is a pseudo label and one without is human. Files of several gigabytes are streamed both ways.

Images of a dataset under `sources.own` carry its name, their file below its root, and for each object the id that the dataset's own
annotation files give to its class (`category_id`), so that labels can go back to where the boxes came from.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from rlip_assets.datasets.scenes import NO_OBJECT, Scene, make_scene
from rlip_assets.datasets.sources.boxes import Box, as_annotated, clipped
from rlip_assets.datasets.sources.json_stream import stream_rows
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.files import atomic_file
from rlip_assets.storage.images import BadImageError
from rlip_assets.storage.quarantine import Quarantine

DATASETS = {"visual_genome": None, "coco": "coco2017", "objects365": "o365", "hico_det": "hico"}
"""Our name of a dataset and what its images carry under "dataset"; Visual Genome carries nothing."""

VG_FORM_START = b'[\n{"image_id": '
"""First bytes of a file that `write_vg_form` wrote."""

_OURS = {theirs: ours for ours, theirs in DATASETS.items()}
_SPLITS = {"train2017": "train", "val2017": "val", "train": "train", "val": "val"}
_OWN_SPLITS = {name: name for name in ("train", "val", "test")}
_SHOWN = 60
"""Characters of a wrong value that a reason quotes."""

OwnIds = Callable[[str], Mapping[str, int | str] | None]
"""Name of a dataset under `sources.own` to its class texts and their ids; None for any other name."""


def _identity(value: Any) -> int | str:
    """Return an id; table libraries write 7 as 7.0."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise ValueError("give a number or a text")
    return value


def _text(value: Any) -> Any:
    """Return a text, None for a value without one ("", 5)."""
    return value if isinstance(value, str) and value.strip() else None


_Id = Annotated[int | str, BeforeValidator(_identity)]
_Pixels = Annotated[float, Field(ge=-1e9, le=1e9)]
_Name = Annotated[str, Field(pattern=r"\S"), BeforeValidator(lambda v: v[0] if isinstance(v, list) and v else v)]


class Images(Protocol):
    """The images of raw datasets: the form tells neither where they lie nor how large they are. Both raise `BadImageError`."""

    def place(self, dataset: str, split: str, file_name: str) -> str:
        """Return where an image lies below the root of its dataset."""
        ...

    def size(self, dataset: str, place: str) -> tuple[int, int]:
        """Return width and height of an image that can be decoded."""
        ...


class _Row(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Object(_Row):
    object_id: _Id
    x: _Pixels
    y: _Pixels
    w: _Pixels
    h: _Pixels
    names: _Name


class _Relation(_Row):
    subject_id: _Id
    object_id: _Id
    predicate: Annotated[str | None, BeforeValidator(_text)]
    confidence: float | None = Field(default=None, ge=0, le=1)


class _Image(_Row):
    image_id: _Id
    dataset: str | None = None
    data_split: str = "train"
    file_name: _Name | None = None
    objects: list[_Object]
    relationships: list[_Relation]


def read_vg_form(
    path: Path,
    images: Images,
    files: Mapping[str, str],
    own: Collection[str],
    counts: Counter[str],
    quarantine: Quarantine,
) -> Iterator[Scene]:
    """Yield the scenes of a VG-form json, one image in memory at a time.

    Args:
        files: image id to file name for Objects365, whose ids do not tell their patch (the published `image_id_to_filepath.json`).
        own: names of the datasets under `sources.own`.
        counts: figures of what was dropped, added to: `relations_repeated` (equal subject, predicate and object; the highest
            confidence stays), `relations_unknown_end`, `relations_without_text`, `relations_of_dropped_boxes`, and those of
            `rlip_assets.datasets.sources.boxes`.
        quarantine: receives each row that breaks the form, repeats an id or has no usable image, with file, row, field and value.

    Raises:
        InputError: the file is missing, truncated or not JSON.
    """
    seen: dict[str, int] = {}
    for number, content in stream_rows(path):
        image_id, file_name = f"row {number}", ""
        try:
            row = _Image.model_validate(content)
            dataset, split = _dataset(row, own)
            image_id = str(row.image_id)
            if dataset == "hico_det":
                image_id = PurePosixPath(image_id).stem or image_id
            if (first := seen.setdefault(image_id, number)) != number:
                raise DataError(f"image_id: {row.image_id!r} is that of row {first}; give each image one row")
            file_name = _file_name(row, dataset, files)
            file_name = images.place(dataset, split, file_name)
            size = images.size(dataset, file_name)
        except BadImageError as error:
            quarantine.add(image_id, file_name, error.reason)
        except ValidationError as error:
            quarantine.add(image_id, file_name, f"{path.name} row {number}, {_fault(error)}")
        except DataError as error:
            quarantine.add(image_id, file_name, f"{path.name} row {number}, {error}")
        else:
            boxes, labels, relations = _content(row, dataset, size, counts)
            yield make_scene(
                image_id, dataset, split, file_name, *size, boxes, labels, list(relations), list(relations.values())
            )


def _fault(error: ValidationError) -> str:
    """Return field, value and fault of the first error."""
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"])) or "the row"
    if first["type"] == "missing":
        return f"{field} is missing"
    if first["type"] == "string_pattern_mismatch":
        first["msg"] = "it is empty"
    value = repr(first["input"])
    return f"{field}: {value if len(value) <= _SHOWN else value[:_SHOWN] + '...'}: {first['msg']}"


def _dataset(row: _Image, own: Collection[str]) -> tuple[str, str]:
    """Return our names of a row's dataset and split."""
    theirs = row.dataset
    if theirs not in _OURS and theirs not in own:
        known = ", ".join(repr(name) for name in (*_OURS, *own))
        raise DataError(f"dataset: {theirs!r} is none of {known}; correct it, or name it under sources.own")
    dataset = theirs if theirs in own else _OURS[theirs]
    assert dataset is not None
    if dataset == "hico_det":
        return dataset, "test" if "test2015" in str(row.image_id) else "train"
    splits = _OWN_SPLITS if dataset in own else _SPLITS
    if row.data_split not in splits:
        raise DataError(f"data_split: {row.data_split!r} is none of {', '.join(splits)}")
    return dataset, splits[row.data_split]


def _file_name(row: _Image, dataset: str, files: Mapping[str, str]) -> str:
    """Return an image's file as the annotation files of its dataset name it."""
    if dataset == "objects365":
        if str(row.image_id) not in files:
            raise DataError(f"image_id: {row.image_id!r} is not in the table of file names; give it with --files")
        return files[str(row.image_id)]
    if dataset == "hico_det":
        return str(row.image_id)
    if dataset == "coco":
        if not str(row.image_id).isdecimal():
            raise DataError(f"image_id: {row.image_id!r} is no number, as ids of COCO are")
        return f"{int(row.image_id):012d}.jpg"
    if dataset == "visual_genome":
        return f"{row.image_id}.jpg"
    if row.file_name is None:
        raise DataError("file_name is missing; an image of a dataset under sources.own needs it")
    return row.file_name


def _content(
    row: _Image, dataset: str, size: tuple[int, int], counts: Counter[str]
) -> tuple[list[Box], list[str], dict[tuple[int, int, str], float]]:
    """Return boxes, labels, and triplets with their confidences (NaN for human ones)."""
    boxes: list[Box] = []
    labels: list[str] = []
    position: dict[int | str, int | None] = {}
    for item in row.objects:
        corners = (item.x, item.y, item.x + item.w, item.y + item.h)
        box = as_annotated(corners, size, counts) if dataset == "hico_det" else clipped(corners, size, counts)
        position.setdefault(item.object_id, None if box is None else len(boxes))
        if box is not None:
            boxes.append(box)
            labels.append(item.names)
    best: dict[tuple[int, int, str], float] = {}
    for relation in row.relationships:
        if relation.predicate is None:
            counts["relations_without_text"] += 1
            continue
        if relation.subject_id not in position or relation.object_id not in position:
            counts["relations_unknown_end"] += 1
            continue
        subject, target = position[relation.subject_id], position[relation.object_id]
        if subject is None or target is None:
            counts["relations_of_dropped_boxes"] += 1
            continue
        triplet = (subject, target, relation.predicate)
        confidence = math.nan if relation.confidence is None else relation.confidence
        if triplet in best:
            counts["relations_repeated"] += 1
            if not confidence > best[triplet]:
                continue
        best[triplet] = confidence
    return boxes, labels, best


def read_file_names(path: Path) -> dict[str, str]:
    """Return the published table of Objects365 ids and file names.

    Raises:
        InputError: missing, or not a JSON object of texts.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give the image_id_to_filepath.json of the release") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}); download it again") from None
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content.values()):
        raise InputError(f"{path} is no table of image ids and file names; give the image_id_to_filepath.json")
    return content


def write_vg_form(path: Path, scenes: Iterable[Scene], own_ids: OwnIds = lambda _: None) -> tuple[int, int]:
    """Write scenes as a VG-form json, atomically, and return the numbers of images and relations.

    Object and relation ids count through the whole file.

    Args:
        own_ids: looks up datasets under `sources.own`, asked once for each image of another dataset than the form's.

    Raises:
        DataError: a dataset that neither the form nor `own_ids` knows, a label that has no id in its own annotation files, or a
            triplet without object, which the form cannot hold.
    """
    images, objects, relations = 0, 0, 0
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write("[")
        for scene in scenes:
            image = _image(scene, objects + 1, relations + 1, own_ids)
            stream.write(("\n" if not images else ",\n") + json.dumps(image, ensure_ascii=False))
            images += 1
            objects += len(scene.labels)
            relations += len(scene.relation)
        stream.write("\n]\n")
    return images, relations


def _image(scene: Scene, first_object: int, first_relation: int, own_ids: OwnIds) -> dict[str, Any]:
    ids = None if scene.dataset in DATASETS else own_ids(scene.dataset)
    if scene.dataset not in DATASETS and ids is None:
        raise DataError(
            f"scene {scene.image_id} is of {scene.dataset}, which the VG form does not know; export one of {', '.join(DATASETS)}, or a "
            "dataset that the profile has under sources.own"
        )
    if (scene.object == NO_OBJECT).any():
        raise DataError(
            f"scene {scene.image_id} has a triplet without object, which the VG form cannot hold; filter it first"
        )
    image: dict[str, Any] = {"image_id": _their_id(scene)}
    if ids is not None:
        image |= {"dataset": scene.dataset, "data_split": scene.split, "file_name": scene.file_name}
    elif theirs := DATASETS[scene.dataset]:
        image |= {"dataset": theirs, "data_split": f"{scene.split}2017" if scene.dataset == "coco" else scene.split}
    image["objects"] = [
        {
            "object_id": first_object + n,
            "x": x1,
            "y": y1,
            "w": x2 - x1,
            "h": y2 - y1,
            "names": scene.labels[n],
            **({} if ids is None else {"category_id": _own_id(scene, scene.labels[n], ids)}),
        }
        for n, (x1, y1, x2, y2) in enumerate(scene.boxes.tolist())
    ]
    image["relationships"] = [
        {
            "relationship_id": first_relation + n,
            "predicate": text,
            "subject_id": first_object + subject,
            "object_id": first_object + target,
            **({} if math.isnan(confidence) else {"confidence": confidence}),
        }
        for n, (subject, target, text, confidence) in enumerate(
            zip(scene.subject.tolist(), scene.object.tolist(), scene.relation, scene.confidence.tolist(), strict=True)
        )
    ]
    return image


def _their_id(scene: Scene) -> int | str:
    """Return an image's id as its annotation files have it: HICO-DET's is the name of the file, others are numbers where they can be."""
    if scene.dataset == "hico_det":
        return PurePosixPath(scene.file_name).name
    text = scene.image_id
    return int(text) if text.isdecimal() and str(int(text)) == text else text


def _own_id(scene: Scene, label: str, ids: Mapping[str, int | str]) -> int | str:
    if label not in ids:
        raise DataError(
            f"scene {scene.image_id} of {scene.dataset} has the label {label!r}, which its annotation files do not list; run its scenes "
            "stage again"
        )
    return ids[label]
