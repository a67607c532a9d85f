"""Visual Genome: `scene_graphs.json`, `object_alias.txt`, `relationship_alias.txt`, images in `images/` (or `VG_100K`,
`VG_100K_2`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from rlip_assets.datasets.image_identity import IMAGE_DATA, coco_ids
from rlip_assets.datasets.scenes import Scene, make_scene
from rlip_assets.datasets.sources.boxes import Box, clipped
from rlip_assets.datasets.sources.classes import Classes, own_classes
from rlip_assets.datasets.sources.dataset_facts import DatasetFacts
from rlip_assets.datasets.sources.json_stream import stream_rows
from rlip_assets.datasets.sources.readers import Fragment, RawImage, Reader
from rlip_assets.datasets.sources.rows import admit, coordinate, list_of, names, plain_id, record, side, text_or_none
from rlip_assets.datasets.sources.vg_cleaning import (
    Aliases,
    Entity,
    Relation,
    drop_synonymous,
    first_name,
    keep_first,
    parse_record,
    read_aliases,
)
from rlip_assets.lineage.params.sources import VisualGenomeParams

_OBJECT = record(object_id=plain_id, x=coordinate, y=coordinate, w=coordinate, h=coordinate, names=names)
_RELATION = record(predicate=text_or_none, subject_id=plain_id, object_id=plain_id)
_GRAPH = record(image_id=plain_id, objects=list_of(_OBJECT), relationships=list_of(_RELATION))
_SIZE = record(image_id=plain_id, width_=side, height_=side)


class VisualGenomeReader(Reader):
    """Entities and free-form relations of Visual Genome, cleaned as in `vg_cleaning.py`. All images are of the split
    "train"."""

    dataset = "visual_genome"
    optional_kinds = frozenset({"size"})
    closed_vocabulary = False

    def __init__(self, root: Path, params: VisualGenomeParams) -> None:
        super().__init__(root)
        self._params = params

    @cached_property
    def _aliases(self) -> Aliases:
        return Aliases(read_aliases(self.root / "object_alias.txt"), read_aliases(self.root / "relationship_alias.txt"))

    def official_files(self) -> dict[str, Path]:
        return {"train": self.root / "scene_graphs.json"}

    def optional_files(self) -> dict[str, Path]:
        return {
            "sizes are not compared with the images, and images shared with COCO are found by their looks alone": self._sizes,
            "object names that mean the same stay apart": self.root / "object_alias.txt",
            "relations that mean the same stay apart": self.root / "relationship_alias.txt",
        }

    @property
    def _sizes(self) -> Path:
        return self.root / IMAGE_DATA

    def annotation_files(self) -> list[Path]:
        return [self.root / "scene_graphs.json", *([self._sizes] if self.is_there(self._sizes) else [])]

    def fragments(self) -> Iterator[Fragment]:
        graphs, *sizes = self.annotation_files()
        for path, form, kind in [(graphs, _GRAPH, "image"), *((path, _SIZE, "size") for path in sizes)]:
            for number, row in stream_rows(path):
                yield admit(form, row, kind, "image_id", f"{path.name} row {number}")

    def assemble(self, fragments: Sequence[Fragment]) -> RawImage | None:
        image, *sizes = fragments
        width, height = (sizes[0].content.get(key) if sizes else None for key in ("width", "height"))
        return RawImage(
            image_id=image.image_id,
            split="train",
            file_name=self.image_path("train", f"{image.image_id}.jpg"),
            size=(width, height) if width and height else None,
            record={
                **{key: image.content[key] for key in ("objects", "relationships")},
                "aliases": self._aliases_in(image.content),
            },
            origin=image.origin,
        )

    def _aliases_in(self, graph: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        """Return the aliases of the texts in a scene graph."""
        names = (first_name(item["names"]) for item in graph["objects"])
        predicates = ((item["predicate"] or "").lower() for item in graph["relationships"])
        return asdict(self._aliases.among(names, predicates))

    def _cleaned(self, raw: RawImage, counts: Counter[str]) -> tuple[dict[int | str, Entity], list[Relation]]:
        """Entities and relations after steps 0 to 4."""
        entities, relations = parse_record(raw.record["objects"], raw.record["relationships"], counts)
        aliases = Aliases(**raw.record["aliases"])
        relations = drop_synonymous(entities, relations, aliases, self._params.duplicate_iou, counts)
        return entities, keep_first(relations, self._params.max_relations, counts)

    @property
    def _filters(self) -> bool:
        return self._params.min_object_frequency > 0 or self._params.min_relation_frequency > 0

    def observe(self, raw: RawImage, tally: Counter[str]) -> None:
        if not self._filters:
            return
        entities, relations = self._cleaned(raw, Counter())
        tally.update(f"o\t{entity.name}" for entity in entities.values())
        tally.update(f"r\t{relation.predicate}" for relation in relations)

    def classes(self, tally: Counter[str]) -> Classes:
        """An open vocabulary: no tables, unless step 9 is on, whose names are then listed by falling frequency."""
        own = own_classes(self.root, self.dataset)
        if own is not None or not self._filters:
            return own or Classes(dataset=self.dataset, objects=[])

        def frequent(kind: str, limit: int) -> list[str]:
            names = [(-count, key[2:]) for key, count in tally.items() if key[0] == kind and count >= limit]
            return [name for _, name in sorted(names)]

        objects = frequent("o", self._params.min_object_frequency)
        return Classes(
            dataset=self.dataset, objects=objects, relations=frequent("r", self._params.min_relation_frequency)
        )

    def facts(self) -> DatasetFacts:
        return DatasetFacts(
            coco_ids=coco_ids(self._sizes) if self.is_there(self._sizes) else None,
            object_aliases=list(self._aliases.objects.items()),
            relation_aliases=list(self._aliases.relations.items()),
        )

    def scene(self, raw: RawImage, size: tuple[int, int], classes: Classes, counts: Counter[str]) -> Scene:
        entities, relations = self._cleaned(raw, counts)
        if self._filters:
            names, predicates = set(classes.objects), set(classes.relations or ())
            frequent = [
                relation
                for relation in relations
                if relation.predicate in predicates
                and entities[relation.subject].name in names
                and entities[relation.object].name in names
            ]
            counts["relations_step9_rare"] += len(relations) - len(frequent)
            relations = frequent
        position: dict[int | str, int] = {}
        boxes: list[Box] = []
        labels: list[str] = []
        for key, entity in entities.items():
            box = clipped(entity.box, size, counts)
            if box is not None:
                position[key] = len(boxes)
                boxes.append(box)
                labels.append(entity.name)
        triplets = [
            (position[relation.subject], position[relation.object], relation.predicate)
            for relation in relations
            if relation.subject in position and relation.object in position
        ]
        counts["relations_of_dropped_boxes"] += len(relations) - len(triplets)
        return make_scene(raw.image_id, self.dataset, raw.split, raw.file_name, *size, boxes, labels, triplets)
