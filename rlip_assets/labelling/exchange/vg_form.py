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
from typing import Any, Protocol

from rlip_assets.datasets.scenes import NO_OBJECT, Scene, make_scene
from rlip_assets.datasets.sources.boxes import Box, as_annotated, clipped, from_corner
from rlip_assets.datasets.sources.json_stream import stream_rows
from rlip_assets.datasets.sources.rows import (
    BadValue,
    coordinate,
    four_numbers,
    is_number,
    list_of,
    plain_id,
    record,
    text,
    text_or_none,
)
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

OwnIds = Callable[[str], Mapping[str, int | str] | None]
"""Name of a dataset under `sources.own` to its class texts and their ids; None for any other name."""


def _name(value: Any) -> str:
    """Return the text of an object, the first one of several."""
    return text(value[0] if type(value) is list and value else value)


def _confidence(value: Any) -> float:
    """Return a confidence, NaN for none."""
    if value is None:
        return math.nan
    if is_number(value) and 0 <= value <= 1:
        return float(value)
    raise BadValue("is not a number from 0 to 1", value)


_OBJECT = record(object_id=plain_id, x=coordinate, y=coordinate, w=coordinate, h=coordinate, names=_name)
_RELATION = record(subject_id=plain_id, object_id=plain_id, predicate=text_or_none, confidence_=_confidence)
_IMAGE = record(
    image_id=plain_id,
    dataset_=lambda value: None if value is None else text(value),
    data_split_=text,
    file_name_=text,
    objects=list_of(_OBJECT),
    relationships=list_of(_RELATION),
)
Row = dict[str, Any]


class Images(Protocol):
    """The images of raw datasets: the form tells neither where they lie nor how large they are. Both raise `BadImageError`."""

    def place(self, dataset: str, split: str, file_name: str) -> str:
        """Return where an image lies below the root of its dataset."""
        ...

    def size(self, dataset: str, place: str) -> tuple[int, int]:
        """Return width and height of an image that can be decoded."""
        ...


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
        counts: added to: `boxes` that are kept, those of `rlip_assets.datasets.sources.boxes`, and relations that are dropped:
            `relations_repeated` (equal subject, predicate and object; the highest confidence stays), `relations_unknown_end`,
            `relations_without_text`, `relations_of_dropped_boxes`.
        quarantine: receives each row that breaks the form, repeats an id or has no usable image, with file, row, field and value.

    Raises:
        InputError: the file is missing, truncated or not JSON.
    """
    seen: dict[str, int] = {}
    for number, content in stream_rows(path):
        image_id, file_name = f"row {number}", ""
        try:
            row = _IMAGE(content)
            dataset, split = _dataset(row, own)
            image_id = str(row["image_id"])
            if dataset == "hico_det":
                image_id = PurePosixPath(image_id).stem or image_id
            if (first := seen.setdefault(image_id, number)) != number:
                raise BadValue(f"is that of row {first}, but each image has one row", row["image_id"], ".image_id")
            file_name = _file_name(row, dataset, files)
            file_name = images.place(dataset, split, file_name)
            size = images.size(dataset, file_name)
        except BadImageError as error:
            quarantine.add(image_id, file_name, error.reason)
        except BadValue as error:
            quarantine.add(image_id, file_name, error.reason(f"{path.name} row {number}"))
        else:
            boxes, labels, relations = _content(row, dataset, size, counts)
            yield make_scene(
                image_id, dataset, split, file_name, *size, boxes, labels, list(relations), list(relations.values())
            )


def _dataset(row: Row, own: Collection[str]) -> tuple[str, str]:
    """Return our names of a row's dataset and split."""
    theirs, split = row.get("dataset"), row.get("data_split", "train")
    if theirs not in _OURS and theirs not in own:
        known = ", ".join(repr(name) for name in (*_OURS, *own))
        raise BadValue(f"is not one of {known} (correct it, or name it under sources.own)", theirs, ".dataset")
    dataset = theirs if theirs in own else _OURS[theirs]
    assert dataset is not None
    if dataset == "hico_det":
        return dataset, "test" if "test2015" in str(row["image_id"]) else "train"
    splits = _OWN_SPLITS if dataset in own else _SPLITS
    if split not in splits:
        raise BadValue(f"is not one of {', '.join(splits)}", split, ".data_split")
    return dataset, splits[split]


def _file_name(row: Row, dataset: str, files: Mapping[str, str]) -> str:
    """Return an image's file as the annotation files of its dataset name it."""
    image_id = row["image_id"]
    if dataset == "objects365":
        if str(image_id) not in files:
            raise BadValue("is not in the table of file names (give it with --files)", image_id, ".image_id")
        return files[str(image_id)]
    if dataset == "hico_det":
        return str(image_id)
    if dataset == "coco":
        if not isinstance(image_id, int):
            raise BadValue("is not a number, as ids of COCO are", image_id, ".image_id")
        return f"{image_id:012d}.jpg"
    if dataset == "visual_genome":
        return f"{image_id}.jpg"
    if "file_name" not in row:
        raise BadValue("has no 'file_name', which an image of a dataset under sources.own needs", image_id)
    return str(row["file_name"])


def _content(
    row: Row, dataset: str, size: tuple[int, int], counts: Counter[str]
) -> tuple[list[Box], list[str], dict[tuple[int, int, str], float]]:
    """Return boxes, labels, and triplets with their confidences (NaN for human ones)."""
    boxes: list[Box] = []
    labels: list[str] = []
    position: dict[int | str, int | None] = {}
    for item in row["objects"]:
        corners = from_corner(four_numbers([item[side] for side in "xywh"]), size, counts)
        if dataset == "hico_det" and four_numbers(list(corners)):
            box: Box | None = as_annotated(corners, size, counts)
        else:
            box = clipped(corners, size, counts)
        position.setdefault(item["object_id"], None if box is None else len(boxes))
        if box is not None:
            boxes.append(box)
            labels.append(item["names"])
    counts["boxes"] += len(boxes)
    best: dict[tuple[int, int, str], float] = {}
    for relation in row["relationships"]:
        ends = [relation["subject_id"], relation["object_id"]]
        if not (relation["predicate"] or "").strip():
            counts["relations_without_text"] += 1
        elif not all(end in position for end in ends):
            counts["relations_unknown_end"] += 1
        elif (subject := position[ends[0]]) is None or (target := position[ends[1]]) is None:
            counts["relations_of_dropped_boxes"] += 1
        else:
            triplet = (subject, target, relation["predicate"])
            confidence = relation.get("confidence", math.nan)
            counts["relations_repeated"] += triplet in best
            if triplet not in best or confidence > best[triplet]:
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
