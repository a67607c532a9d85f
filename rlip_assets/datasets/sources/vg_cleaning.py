"""The cleaning of Visual Genome: steps 0 to 4 and 9 of the published preprocessing, each counted.

    0  lower-case object names and predicates
    1  drop exact repeats of (subject id, predicate, object id) within an image, the first stays
    2  an object's names become its first name
    3  drop a relation that says the same as an earlier one: equal predicate, subject and object names up to aliases,
    and both box
       pairs overlap by `duplicate_iou` or more
    4  keep the first `max_relations` relations of an image
    9  drop relations whose predicate or names are rarer in the dataset than a limit (off by default)

Beyond the published steps, relations with unknown ends, objects without a name and relations without text are dropped
and counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlip_assets.datasets.sources.boxes import Box
from rlip_assets.storage.errors import InputError
from rlip_model.boxes import iou


@dataclass(frozen=True)
class Entity:
    """An object after step 2."""

    name: str
    box: Box


@dataclass(frozen=True)
class Relation:
    """A relation between entities, by their ids in the image."""

    subject: int | str
    predicate: str
    object: int | str


@dataclass(frozen=True)
class Aliases:
    """Text to the canonical text of its synonym set; texts without a set stand for themselves."""

    objects: Mapping[str, str]
    relations: Mapping[str, str]

    def among(self, names: Iterable[str], predicates: Iterable[str]) -> Aliases:
        """Return the aliases of some texts alone; a text that is its own canonical one is left out."""
        pairs = ((names, self.objects), (predicates, self.relations))
        return Aliases(
            *({text: known[text] for text in texts if known.get(text, text) != text} for texts, known in pairs)
        )


def read_aliases(path: Path) -> dict[str, str]:
    """Text to canonical text, from lines of comma-separated synonyms whose first is canonical; the first line of a
    text wins.

    A file that does not exist has no aliases.

    Raises:
        InputError: the file is not UTF-8.
    """
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig").lower().splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 at byte {error.start}; fetch it again") from None
    canonical: dict[str, str] = {}
    for line in lines:
        texts = [text.strip() for text in line.split(",") if text.strip()]
        for text in texts:
            canonical.setdefault(text, texts[0])
    return canonical


def first_name(names: str | Sequence[str]) -> str:
    """Return the first name of an object in lower case (steps 0 and 2); "" where it has none."""
    name = names if isinstance(names, str) else next(iter(names), "")
    return name.lower() if name.strip() else ""


def parse_record(
    objects: Sequence[Mapping[str, Any]], relationships: Sequence[Mapping[str, Any]], counts: Counter[str]
) -> tuple[dict[int | str, Entity], list[Relation]]:
    """Return objects by id and relations of one image, steps 0 to 2 done; boxes are x1 y1 x2 y2, not yet clipped.

    Args:
        objects, relationships: of the form that the reader states: None where a predicate is not a text or a coordinate not a number.
    """
    entities: dict[int | str, Entity] = {}
    for item in objects:
        key, names, name = item["object_id"], item["names"], first_name(item["names"])
        counts["objects_read"] += 1
        counts["objects_several_names"] += not isinstance(names, str) and len(names) > 1
        if not name:
            counts["objects_without_name"] += 1
        elif key in entities:
            counts["objects_repeated_id"] += 1
        else:
            x, y, width, height = (math.nan if item[side] is None else float(item[side]) for side in "xywh")
            entities[key] = Entity(name, (x, y, x + width, y + height))
    relations: dict[Relation, None] = {}
    for item in relationships:
        relation = Relation(item["subject_id"], (item["predicate"] or "").lower(), item["object_id"])
        counts["relations_read"] += 1
        if relation in relations:
            counts["relations_step1_repeated"] += 1
        elif relation.subject not in entities or relation.object not in entities:
            counts["relations_unknown_end"] += 1
        elif not relation.predicate.strip():
            counts["relations_without_text"] += 1
        else:
            relations[relation] = None
    return entities, list(relations)


def drop_synonymous(
    entities: Mapping[int | str, Entity],
    relations: Sequence[Relation],
    aliases: Aliases,
    minimum_iou: float,
    counts: Counter[str],
) -> list[Relation]:
    """Step 3: compare each relation with the earlier ones that stayed, boxes by their pixels as the published preprocessing does."""
    kept: list[Relation] = []
    same_text: dict[tuple[str, str, str], list[Box]] = {}
    for relation in relations:
        subject, target = entities[relation.subject], entities[relation.object]
        key = (
            aliases.objects.get(subject.name, subject.name),
            aliases.relations.get(relation.predicate, relation.predicate),
            aliases.objects.get(target.name, target.name),
        )
        pair, earlier = [subject.box, target.box], same_text.setdefault(key, [])
        if earlier and (iou(np.reshape(earlier, (-1, 2, 4)), np.array(pair), side=1) >= minimum_iou).all(1).any():
            counts["relations_step3_synonymous"] += 1
        else:
            earlier += pair
            kept.append(relation)
    return kept


def keep_first(relations: list[Relation], limit: int, counts: Counter[str]) -> list[Relation]:
    """Step 4."""
    if len(relations) > limit:
        counts["images_step4_truncated"] += 1
        counts["relations_step4_beyond_limit"] += len(relations) - limit
    return relations[:limit]
