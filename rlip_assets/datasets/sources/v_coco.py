"""V-COCO from its official action files, joined with the COCO boxes that they refer to.

Layout: `vcoco_{trainval,train,val,test}.json`, `instances_vcoco_all_2014.json` and the image lists `splits/vcoco_*.ids` in the root,
in `data/` or in `data/vcoco/`; images in `{train,val}2014/`, below `images/` or `coco/images/` or in the root. trainval (or train and
val) is the split "train".

The 26 actions become 29 by role. A triplet is (agent, object of the role, text); its object is `NO_OBJECT` for an
action without roles and for a role that nobody fills. Boxes stay as annotated.
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
from rlip_assets.datasets.sources.json_stream import stream_rows
from rlip_assets.datasets.sources.readers import Fragment, RawImage, Reader, RecordError, required
from rlip_assets.storage.errors import DataError, InputError

_INSTANCES = "instances_vcoco_all_2014.json"
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

    def parts(self) -> list[tuple[str, Path, Path]]:
        """(split, action file, image list): trainval where it is there, otherwise train and val; and test.

        Raises:
            InputError: there is no action file at all.
        """
        names = ("trainval",) if self._find("vcoco_trainval.json").exists() else ("train", "val")
        parts = [
            (split, self._find(f"vcoco_{name}.json"), self._find(f"splits/vcoco_{name}.ids"))
            for split, name in [*(("train", name) for name in names), ("test", "test")]
        ]
        found = [part for part in parts if part[1].exists()]
        if not found:
            raise InputError(
                f"{self.root} holds no vcoco_*.json; point sources.v_coco.root at the official action files"
            )
        return found

    def annotation_files(self) -> list[Path]:
        files = [path for _, actions, images in self.parts() for path in (actions, images) if path.exists()]
        return [self._find(_INSTANCES), *files]

    def fragments(self) -> Iterator[Fragment]:
        listed: set[int] = set()
        for split, actions, images in self.parts():
            members = _listed_images(images)
            for row, action in stream_rows(actions):
                yield from _action_fragments(action, f"{self.relative(actions)} row {row}")
                members.update(action["image_id"])
            for image_id in sorted(members - listed):
                yield Fragment(str(image_id), "member", split, self.relative(actions))
            listed |= members
        path = self._find(_INSTANCES)
        for row, image in stream_rows(path, "images"):
            origin = f"{self.relative(path)} images row {row}"
            image_id, file_name = required(image, ("id", "file_name"), origin)
            content = [file_name, image.get("width"), image.get("height")]
            if image_id in listed:
                yield Fragment(str(image_id), "image", content, origin)
        for row, box in stream_rows(path, "annotations"):
            origin = f"{self.relative(path)} annotations row {row}"
            key, image_id, category, corner = required(box, ("id", "image_id", "category_id", "bbox"), origin)
            if image_id in listed:
                content = [key, category, corner, int(box.get("iscrowd") or 0)]
                yield Fragment(str(image_id), "annotation", content, origin)

    def assemble(self, fragments: Sequence[Fragment]) -> RawImage | None:
        image = fragments[0]
        file_name, width, height = image.content
        folder = file_name.split("_")[1] if file_name.startswith("COCO_") else ""
        places = [f"{prefix}{folder}" for prefix in ("images/", "coco/images/", "")]
        return RawImage(
            image_id=image.image_id,
            split=next(piece.content for piece in fragments if piece.kind == "member"),
            file_name=f"{self.relative(self.existing(*places))}/{file_name}",
            size=(int(width), int(height)) if width and height else None,
            record={
                "boxes": [piece.content for piece in fragments if piece.kind == "annotation"],
                "actions": [piece.content for piece in fragments if piece.kind == "action"],
            },
            origin=image.origin,
        )

    def classes(self, tally: Counter[str]) -> Classes:
        return own_classes(self.root, self.dataset) or v_coco_classes()

    def scene(self, raw: RawImage, size: tuple[int, int], classes: Classes, counts: Counter[str]) -> Scene:
        used = {key for _, agent, roles in raw.record["actions"] for key in (agent, *(box for _, box in roles))}
        position: dict[int, int] = {}
        boxes: list[Box] = []
        labels: list[str] = []
        for key, category, corner, crowd in raw.record["boxes"]:
            if crowd and key not in used:
                counts["boxes_crowd"] += 1
                continue
            if category not in coco_names():
                raise RecordError(f"box {key} has category id {category!r}, which is no COCO category")
            position[key] = len(boxes)
            boxes.append(as_annotated(from_corner(corner), counts))
            labels.append(coco_names()[category])
        triplets = [triplet for action in raw.record["actions"] for triplet in _triplets(action, position)]
        return make_scene(raw.image_id, self.dataset, raw.split, raw.file_name, *size, boxes, labels, triplets)


def _listed_images(path: Path) -> set[int]:
    """The images of a split, also those without persons, which no action mentions; empty where the list is not there.

    Raises:
        DataError: a line that is no number.
    """
    if not path.exists():
        return set()
    lines = path.read_text(encoding="utf-8").split()
    try:
        return {int(line) for line in lines}
    except ValueError:
        wrong = next(number for number, line in enumerate(lines, start=1) if not line.isdigit())
        raise DataError(f"{path} line {wrong} is {lines[wrong - 1]!r}, not an image id; fetch the list again") from None


def _action_fragments(action: Any, origin: str) -> Iterator[Fragment]:
    """One piece per agent that does the action: [action, agent box id, [[role, box id or 0], ...]]."""
    keys = ("action_name", "role_name", "image_id", "ann_id", "label", "role_object_id")
    name, roles, images, agents, labels, objects = required(action, keys, origin)
    count = len(images)
    if not (len(agents) == len(labels) == count and len(objects) == count * len(roles)):
        raise DataError(f"{origin} ({name}): the parallel lists differ in length; fetch the official file again")
    for row in range(count):
        if labels[row] == 1:
            filled = [[role, objects[number * count + row]] for number, role in enumerate(roles) if role != "agent"]
            yield Fragment(str(images[row]), "action", [name, agents[row], filled], f"{origin} entry {row}")


def _triplets(
    action: tuple[str, int, list[tuple[str, int]]], position: dict[int, int]
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
