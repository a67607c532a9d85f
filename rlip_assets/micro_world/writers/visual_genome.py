"""Visual Genome: `images/<id>.jpg`, `scene_graphs.json`, `image_data.json`, `object_alias.txt`, `relationship_alias.txt`.

Annotators are free and lazy as in the original: any noun and verb form, mixed case, sometimes two names for an object, sometimes a relation
written twice, two of three spatial relations left out.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from rlip_assets.lineage.params.world import WorldParams
from rlip_assets.micro_world.picture import Picture
from rlip_assets.micro_world.shots import shots
from rlip_assets.micro_world.wording import noun, object_aliases, relationship_aliases, visual_genome_predicate
from rlip_assets.micro_world.writers import Progress, save_json, save_picture

FIRST_IMAGE = 2315001
SPATIAL_KEPT = 0.33
WRITTEN_TWICE = 0.02


def _names(kind: str, rng: Random) -> list[str]:
    names = [noun(kind, rng)]
    if rng.random() < 0.06 and (second := noun(kind, rng)) not in names:
        names.append(second)
    if rng.random() < 0.08:
        names[0] = names[0].title() if rng.random() < 0.7 else names[0].upper()
    return names


def _graph(image_id: int, picture: Picture, rng: Random, first_object: int, first_relation: int) -> dict[str, Any]:
    objects = [
        {
            "object_id": first_object + number,
            "x": int(thing.x),
            "y": int(thing.y),
            "w": int(thing.width),
            "h": int(thing.height),
            "names": _names(thing.kind, rng),
            "synsets": [f"{thing.category.replace(' ', '_')}.n.01"],
        }
        for number, thing in enumerate(picture.things)
    ]
    relations: list[dict[str, Any]] = []
    for relation in picture.relations:
        if relation.spatial and rng.random() > SPATIAL_KEPT:
            continue
        predicate = visual_genome_predicate(relation.text, rng)
        for _ in range(2 if rng.random() < WRITTEN_TWICE else 1):
            relations.append(
                {
                    "relationship_id": first_relation + len(relations),
                    "predicate": predicate,
                    "synsets": [],
                    "subject_id": first_object + relation.subject,
                    "object_id": first_object + relation.object,
                }
            )
    return {"image_id": image_id, "objects": objects, "relationships": relations}


def write(root: Path, params: WorldParams, progress: Progress) -> dict[str, Any]:
    """Figures: images, objects, relations, and the count of every predicate."""
    graphs, sizes = [], []
    first_object = first_relation = 1
    for shot in shots("visual_genome", "train", params.visual_genome, params.seed):
        image_id, picture = FIRST_IMAGE + shot.number, shot.picture
        save_picture(root / "images" / f"{image_id}.jpg", picture)
        graph = _graph(image_id, picture, shot.annotator, first_object, first_relation)
        graphs.append(graph)
        sizes.append(
            {"image_id": image_id, "width": picture.width, "height": picture.height, "coco_id": None, "flickr_id": None}
        )
        first_object += len(graph["objects"])
        first_relation += len(graph["relationships"])
        progress(1)
    save_json(root / "scene_graphs.json", graphs)
    save_json(root / "image_data.json", sizes)
    for name, lines in (("object_alias.txt", object_aliases()), ("relationship_alias.txt", relationship_aliases())):
        (root / name).write_text("".join(",".join(line) + "\n" for line in lines))
    predicates = Counter(relation["predicate"].lower() for graph in graphs for relation in graph["relationships"])
    return {
        "images": len(graphs),
        "objects": first_object - 1,
        "relations": first_relation - 1,
        "predicates": dict(sorted(predicates.items())),
    }
