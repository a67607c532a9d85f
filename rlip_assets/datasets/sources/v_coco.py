"""V-COCO from its official action files, joined with the COCO boxes that they refer to.

Layout: `vcoco_{trainval,train,val,test}.json`, `instances_vcoco_all_2014.json` and the image lists `splits/vcoco_*.ids` in the root,
in `data/` or in `data/vcoco/`; images in `{train,val}2014/`, below `images/` or `coco/images/` or in the root. trainval (or train and
val) is the split "train".

The 26 actions become 29 by role. A triplet is (agent, object of the role, text); its object is `NO_OBJECT` for an
action without roles and for an unfilled role. Boxes stay as annotated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rlip_assets.datasets.scenes import NO_OBJECT, Scene, make_scene
from rlip_assets.datasets.sources.boxes import Box, as_annotated, from_corner
from rlip_assets.datasets.sources.classes import Classes, coco_names, official_table, own_classes, v_coco_classes
from rlip_assets.datasets.sources.json_stream import stream_arrays, stream_rows
from rlip_assets.datasets.sources.readers import (
    REJECTED,
    Fragment,
    NoAnnotationsError,
    RawImage,
    Reader,
    RecordError,
)
from rlip_assets.datasets.sources.rows import (
    BadValue,
    admit,
    anything,
    exactly_four_numbers,
    flag,
    list_of,
    plain_id,
    record,
    rejected,
    shown,
    side,
    text,
)
from rlip_assets.storage.errors import DataError, InputError

_INSTANCES = "instances_vcoco_all_2014.json"
_IDS = list_of(anything)
_ACTION = record(action_name=text, role_name=list_of(text), image_id=_IDS, ann_id=_IDS, label=_IDS, role_object_id=_IDS)
_ENTRY = record(image_id=plain_id, ann_id=plain_id, label=flag, role_object_id=list_of(plain_id))
_IMAGE = record(id=plain_id, file_name=text, width_=side, height_=side)
_BOX = record(id=plain_id, image_id=plain_id, category_id=plain_id, bbox=exactly_four_numbers, iscrowd_=flag)
_PLACES = ("", "data/", "data/vcoco/", "vcoco/", "annotations/")


@cache
def role_texts() -> dict[tuple[str, str | None], str]:
    """(action, role or None) to text, for the 29 classes."""
    return {(row["action"], row["role"]): row["text"] for row in official_table("v_coco")["verbs"]}


class VCocoReader(Reader):
    """Agents, objects and the 29 role-expanded actions of V-COCO."""

    dataset = "v_coco"

    def _find(self, name: str) -> Path:
        return self.existing(*(f"{place}{name}" for place in _PLACES))

    def _all_parts(self) -> list[tuple[str, Path, Path]]:
        names = ("trainval",) if self._find("vcoco_trainval.json").exists() else ("train", "val")
        return [
            (split, self._find(f"vcoco_{name}.json"), self._find(f"splits/vcoco_{name}.ids"))
            for split, name in [*(("train", name) for name in names), ("test", "test")]
        ]

    def official_files(self) -> dict[str, Path]:
        return {"boxes": self._find(_INSTANCES), **{actions.stem: actions for _, actions, _ in self._all_parts()}}

    def optional_files(self) -> dict[str, Path]:
        return {f"images without persons are left out of {path.stem}": path for _, _, path in self._all_parts()}

    def parts(self) -> list[tuple[str, Path, Path]]:
        """(split, action file, image list): trainval where it is there, otherwise train and val; and test.

        Raises:
            NoAnnotationsError: there is no action file at all.
        """
        found = [part for part in self._all_parts() if self.is_there(part[1])]
        if not found:
            raise NoAnnotationsError(
                f"{self.root} holds no vcoco_*.json; point sources.v_coco.root at the official action files"
            )
        return found

    def annotation_files(self) -> list[Path]:
        files = [path for _, actions, images in self.parts() for path in (actions, images) if path.exists()]
        return [self._find(_INSTANCES), *files]

    def fragments(self) -> Iterator[Fragment]:
        listed: set[str] = set()
        doubtful: dict[str, str] = {}
        for split, actions, images in self.parts():
            members, wrong = _listed_images(images) if images not in self.passed_over else (set[str](), [])
            yield from wrong
            for number, row in stream_rows(actions):
                for piece in _action_pieces(row, f"{self.relative(actions)} row {number}", doubtful):
                    members.add(piece.image_id)
                    if piece.kind == REJECTED or piece.content:
                        yield piece
            for image_id in sorted(members - listed - {""}):
                yield Fragment(image_id, "member", split, self.relative(actions))
            listed |= members
        path = self._find(_INSTANCES)
        for array, number, row in stream_arrays(path, "images", "annotations"):
            origin = f"{self.relative(path)} {array} row {number}"
            form = (_IMAGE, "image", "id") if array == "images" else (_BOX, "annotation", "image_id")
            piece = admit(form[0], row, *form[1:], origin)
            if piece.image_id in listed or not piece.image_id:
                yield piece
                if doubtful and piece.kind == "annotation" and str(piece.content["id"]) in doubtful:
                    yield Fragment(piece.image_id, REJECTED, doubtful[str(piece.content["id"])], origin)

    def assemble(self, fragments: Sequence[Fragment]) -> RawImage | None:
        image = fragments[0]
        name, width, height = (image.content.get(key) for key in ("file_name", "width", "height"))
        split = next(piece.content for piece in fragments if piece.kind == "member")
        boxes = [piece.content for piece in fragments if piece.kind == "annotation"]
        return RawImage(
            image_id=image.image_id,
            split=split,
            file_name=self.image_path(split, name),
            size=(width, height) if width and height else None,
            record={
                "boxes": [[box["id"], box["category_id"], box["bbox"], box.get("iscrowd", 0)] for box in boxes],
                "actions": [piece.content for piece in fragments if piece.kind == "action"],
            },
            origin=image.origin,
        )

    def classes(self, tally: Counter[str]) -> Classes:
        return own_classes(self.root, self.dataset) or v_coco_classes()

    def scene(self, raw: RawImage, size: tuple[int, int], classes: Classes, counts: Counter[str]) -> Scene:
        used = {key for _, agent, roles in raw.record["actions"] for key in (agent, *(box for _, box in roles))}
        position: dict[int | str, int] = {}
        boxes: list[Box] = []
        labels: list[str] = []
        for key, category, corner, crowd in raw.record["boxes"]:
            if crowd and key not in used:
                counts["boxes_crowd"] += 1
                continue
            if category not in coco_names():
                raise RecordError(f"box {key} has category id {category!r}, which is no COCO category")
            position[key] = len(boxes)
            boxes.append(as_annotated(from_corner(corner, size, counts), size, counts))
            labels.append(coco_names()[category])
        triplets = [triplet for action in raw.record["actions"] for triplet in _triplets(action, position)]
        return make_scene(raw.image_id, self.dataset, raw.split, raw.file_name, *size, boxes, labels, triplets)


def _listed_images(path: Path) -> tuple[set[str], list[Fragment]]:
    """The images of a split, also those without persons, which no action mentions, and the lines that are not image ids; empty where the
    list is not there.

    Raises:
        InputError: the list cannot be read.
    """
    if not path.exists():
        return set(), []
    try:
        lines = path.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); fetch the list again") from None
    wrong = [(number, line) for number, line in enumerate(lines, start=1) if not line.isdecimal()]
    pieces = [
        rejected(line, f"the line is not an image id ({shown(line)}; {path.name} line {number})", path.name)
        for number, line in wrong
    ]
    return {str(int(line)) for line in lines if line.isdecimal()}, pieces


def _action_pieces(row: Any, origin: str, doubtful: dict[str, str]) -> Iterator[Fragment]:
    """One piece per entry of an action: [action, agent box id, [[role, box id or 0], ...]], or no content where the agent does not do it.

    Where an entry, or the whole row, does not tell its image, its boxes do: they are added to `doubtful`, with the reason.

    Raises:
        DataError: the row tells neither images nor boxes.
    """
    try:
        name, roles, images, agents, labels, objects = _ACTION(row).values()
        count = len(images)
        if not (len(agents) == len(labels) == count and len(objects) == count * len(roles)):
            raise BadValue(
                f"({name}) has parallel lists of different lengths", [*map(len, (images, agents, labels, objects))]
            )
    except BadValue as error:
        lists = {
            key: row.get(key) if isinstance(row, dict) else None for key in ("image_id", "ann_id", "role_object_id")
        }
        told = {key: value for key, value in lists.items() if isinstance(value, list) and value}
        if not told:
            raise DataError(
                f"{error.reason(origin)}, and tells neither images nor boxes; fetch the file again"
            ) from None
        for key, values in told.items():
            ids = {rejected(value, "", "").image_id for value in values} - {"", "0"}
            if key == "image_id":
                yield from (Fragment(image_id, REJECTED, error.reason(origin), origin) for image_id in sorted(ids))
            else:
                doubtful |= dict.fromkeys(ids, error.reason(origin))
        return
    for number, (image_id, agent, label) in enumerate(zip(images, agents, labels, strict=True)):
        entry = {"image_id": image_id, "ann_id": agent, "label": label, "role_object_id": objects[number::count]}
        piece = admit(_ENTRY, entry, "action", "image_id", f"{origin} entry {number}")
        if piece.kind != REJECTED:
            filled = [
                list(each) for each in zip(roles, piece.content["role_object_id"], strict=True) if each[0] != "agent"
            ]
            yield piece._replace(content=[name, piece.content["ann_id"], filled] if piece.content["label"] else None)
        else:
            yield piece
            if not piece.image_id:
                doubtful[rejected(agent, "", "").image_id] = piece.content


def _triplets(
    action: tuple[str, int, list[tuple[str, int]]], position: dict[int | str, int]
) -> Iterator[tuple[int, int, str]]:
    name, agent, roles = action
    if agent not in position:
        raise RecordError(f"action {name} has agent box {agent}, which the image does not have")
    filled: list[tuple[str | None, int]] = [(role, box) for role, box in roles] or [(None, 0)]
    for role, box in filled:
        text = role_texts().get((name, role))
        if text is None:
            raise RecordError(f"action {name} has role {role!r}, which is no class")
        if box and box not in position:
            raise RecordError(f"action {name} has role box {box}, which the image does not have")
        yield position[agent], position[box] if box else NO_OBJECT, text
