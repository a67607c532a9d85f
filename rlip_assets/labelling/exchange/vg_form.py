"""The json of the published pre-training ("VG form"): a list of images with `objects` and `relationships`.

Released pseudo-label files can be read into scene tables, and tables given away in this form. Names are single texts,
boxes x y w h in pixels, a relation with `confidence` is a pseudo label and one without is human. Files of several
gigabytes are streamed both ways.

Images of a dataset of one's own carry its name, their file below its root, and for each object the id that the dataset's
own files give to its class (`category_id`), so that labels can go back to where the boxes came from.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from rlip_assets.datasets.scenes import NO_OBJECT, Scene, make_scene
from rlip_assets.datasets.sources.json_stream import stream_rows
from rlip_assets.datasets.sources.readers import objects_of, required
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.files import atomic_file
from rlip_assets.storage.images import BadImageError

DATASETS = {"visual_genome": None, "coco": "coco2017", "objects365": "o365", "hico_det": "hico"}
"""Our name of a dataset and what its images carry under "dataset"; Visual Genome carries nothing."""

_OURS = {theirs: ours for ours, theirs in DATASETS.items()}
_SPLITS = {"train2017": "train", "val2017": "val", "train": "train", "val": "val"}
_OWN_SPLITS = {name: name for name in ("train", "val", "test")}

VG_FORM_START = b'[\n{"image_id": '
"""First bytes of a file that `write_vg_form` wrote."""

SizeOf = Callable[[str, str], tuple[int, int]]
"""(dataset, file name) to (width, height): the form does not tell sizes."""

OwnIds = Callable[[str], Mapping[str, int | str] | None]
"""Name of a dataset of one's own to its class texts and their ids; None for a name that is none."""


def read_vg_form(
    path: Path,
    size_of: SizeOf,
    files: Mapping[str, str] | None = None,
    counts: Counter[str] | None = None,
    own: Collection[str] = (),
) -> Iterator[Scene]:
    """The scenes of a VG-form json, one image in memory at a time.

    Args:
        size_of: looks up the size of an image, usually `check_image` on the file below the raw root.
        files: image id to file name for Objects365, whose ids do not tell their patch (the published
            `image_id_to_filepath.json`).
        counts: figures of what was dropped, added to: `relations_repeated` (equal subject, predicate and object; the highest
            confidence stays), `relations_unknown_end`, and `images_unreadable`, where `size_of` refuses the file.
        own: names of datasets of one's own.

    Raises:
        InputError: the file is missing, truncated or not JSON.
        DataError: a row without the keys of the form, or of an unknown dataset.
    """
    tally = Counter() if counts is None else counts
    for row, image in stream_rows(path):
        origin = f"{path.name} row {row}"
        image_id, objects, relations = required(image, ("image_id", "objects", "relationships"), origin)
        theirs = image.get("dataset")
        if theirs not in _OURS and theirs not in own:
            known = ", ".join(repr(name) for name in (*_OURS, *own))
            raise DataError(
                f"{origin} is of dataset {theirs!r}, which is none of {known}; correct its 'dataset', or name it under sources.own"
            )
        dataset = theirs if theirs in own else _OURS[theirs]
        splits = _OWN_SPLITS if dataset in own else _SPLITS
        split = splits.get(image.get("data_split", "train"))
        if dataset == "hico_det":
            split = "test" if "test2015" in str(image_id) else "train"
        if split is None:
            raise DataError(f"{origin} has data_split {image['data_split']!r}; use one of {', '.join(splits)}")
        known_files = files or {}
        file_name = (
            _own_file(image, origin) if dataset in own else _file_name(dataset, split, image_id, known_files, origin)
        )
        entities = [
            _entity(item, f"{origin} object {n}") for n, item in enumerate(objects_of(objects, "objects", origin))
        ]
        position = {key: number for number, (key, _, _) in reversed(list(enumerate(entities)))}
        best: dict[tuple[int, int, str], float] = {}
        for number, item in enumerate(objects_of(relations, "relationships", origin)):
            subject, target, text = required(
                item, ("subject_id", "object_id", "predicate"), f"{origin} relation {number}"
            )
            if subject not in position or target not in position:
                tally["relations_unknown_end"] += 1
                continue
            triplet = (position[subject], position[target], str(text))
            confidence = float(item.get("confidence", math.nan))
            if triplet in best:
                tally["relations_repeated"] += 1
                if not confidence > best[triplet]:
                    continue
            best[triplet] = confidence
        try:
            size = size_of(dataset, file_name)
        except BadImageError:
            tally["images_unreadable"] += 1
            continue
        yield make_scene(
            PurePosixPath(str(image_id)).stem if dataset == "hico_det" else str(image_id),
            dataset,
            split,
            file_name,
            *size,
            [box for _, box, _ in entities],
            [name for _, _, name in entities],
            list(best),
            list(best.values()),
        )


def write_vg_form(path: Path, scenes: Iterable[Scene], own_ids: OwnIds = lambda _: None) -> int:
    """Write scenes as a VG-form json, atomically, and return their number.

    Object and relation ids count through the whole file. Triplets without object have no place in the form and raise.

    Args:
        own_ids: looks up datasets of one's own, asked once for each image of another dataset than the form's.

    Raises:
        DataError: a dataset that the form does not know and that is nobody's own, a label that such a one has no id for, or a triplet
            without object.
    """
    written, next_object, next_relation = 0, 1, 1
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write("[")
        for scene in scenes:
            stream.write(
                ("\n" if not written else ",\n")
                + json.dumps(_image(scene, next_object, next_relation, own_ids), ensure_ascii=False)
            )
            written += 1
            next_object += len(scene.labels)
            next_relation += len(scene.relation)
        stream.write("\n]\n")
    return written


def read_file_names(path: Path) -> dict[str, str]:
    """The published table of Objects365 ids and file names.

    Raises:
        InputError: missing, or not a JSON object of texts.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give the image_id_to_filepath.json of the release") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); download it again") from None
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content.values()):
        raise InputError(f"{path} is no table of image ids and file names; give the image_id_to_filepath.json")
    return content


def _entity(item: dict[str, Any], origin: str) -> tuple[Any, tuple[float, float, float, float], str]:
    key, x, y, width, height, names = required(item, ("object_id", "x", "y", "w", "h", "names"), origin)
    name = names[0] if isinstance(names, list) and names else names
    if not isinstance(name, str):
        raise DataError(f"{origin} has names {names!r}, not a text; correct the object")
    try:
        box = (float(x), float(y), float(x) + float(width), float(y) + float(height))
    except (TypeError, ValueError):
        raise DataError(
            f"{origin} has a box of {[x, y, width, height]!r}, not four numbers; correct the object"
        ) from None
    return key, box, name


def _file_name(dataset: str, split: str, image_id: Any, files: Mapping[str, str], origin: str) -> str:
    """Where the image lies below the raw root of its dataset, by the rules of its official layout."""
    if dataset == "visual_genome":
        return f"images/{image_id}.jpg"
    if dataset == "coco":
        return f"{split}2017/{int(image_id):012d}.jpg"
    if dataset == "hico_det":
        return f"images/{split}2015/{image_id}"
    if str(image_id) not in files:
        raise DataError(f"{origin}: no file name for Objects365 image {image_id}; give the table of ids and paths")
    return files[str(image_id)]


def _own_file(image: dict[str, Any], origin: str) -> str:
    """Where an image of one's own dataset lies below its root, as the row says."""
    (name,) = required(image, ("file_name",), origin)
    if not isinstance(name, str) or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise DataError(f"{origin} has the file_name {name!r}; give a path relative to the root of its dataset")
    return name


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
    """The id of an image as its annotation files have it: HICO-DET's is the name of the file, others are numbers wherever they can be."""
    if scene.dataset == "hico_det":
        return PurePosixPath(scene.file_name).name
    text = scene.image_id
    return text if scene.dataset not in DATASETS and not (text.isdecimal() and str(int(text)) == text) else int(text)


def _own_id(scene: Scene, label: str, ids: Mapping[str, int | str]) -> int | str:
    if label not in ids:
        raise DataError(
            f"scene {scene.image_id} of {scene.dataset} has the label {label!r}, which its annotation files do not list; run its scenes "
            "stage again"
        )
    return ids[label]
