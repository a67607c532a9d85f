"""V-COCO: the official action files over COCO 2014 boxes.

`data/vcoco/vcoco_{train,val,trainval,test}.json` (26 actions, parallel lists, role-major `role_object_id`, 0 = nobody),
`data/instances_vcoco_all_2014.json`, `data/splits/vcoco_<split>.ids`, images in `images/{train,val}2014/`. As in the original, test images
and the second half of trainval come from val2014.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from rlip_assets.datasets.sources.classes import official_table
from rlip_assets.lineage.params.world import WorldParams
from rlip_assets.micro_world.picture import Picture
from rlip_assets.micro_world.shots import shots
from rlip_assets.micro_world.vocabularies import v_coco_classes
from rlip_assets.micro_world.world import DATA
from rlip_assets.micro_world.writers import ON_BOARDS, Progress, save_json, save_picture
from rlip_assets.micro_world.writers.instances import Instances, coco_categories, coco_category

ACTIONS: dict[str, list[str]] = {
    action: [row["role"] for row in rows if row["role"]]
    for action, rows in groupby(official_table("v_coco")["verbs"], itemgetter("action"))
}
"""The official actions with the roles of their objects."""
OF_RELATION: dict[str, list[list[str]]] = DATA["v_coco"]["relations"]
OF_POSE: dict[str, list[str]] = DATA["v_coco"]["poses"]


@dataclass(frozen=True)
class Agent:
    """A person with the actions done: action -> role -> thing index, where somebody fills the role."""

    box_id: int
    image_id: int
    done: dict[str, dict[str, int]]


def _actions(picture: Picture, person: int) -> dict[str, dict[str, int]]:
    done: dict[str, dict[str, int]] = {action: {} for action in OF_POSE.get(picture.things[person].pose, ())}
    for relation in picture.relations:
        if relation.subject != person:
            continue
        target = picture.things[relation.object].category
        pairs = OF_RELATION.get(relation.text, [])
        if relation.text == "ride" and target in ON_BOARDS:
            pairs = [[ON_BOARDS[target], "instr"]]
        for action, role in pairs:
            done.setdefault(action, {})[role] = relation.object
    return done


def _action_file(agents: Sequence[Agent], box_ids: dict[int, dict[int, int]]) -> list[dict[str, Any]]:
    """Return the official structure: one entry per action, every agent of the split in each of them."""
    content = []
    for action, roles in ACTIONS.items():
        filled = [agent.box_id for agent in agents]
        for role in roles:
            for agent in agents:
                target = agent.done.get(action, {}).get(role)
                filled.append(0 if target is None else box_ids[agent.image_id][target])
        content.append(
            {
                "action_name": action,
                "role_name": ["agent", *roles],
                "include": [[] for _ in range(len(roles) + 1)],
                "image_id": [agent.image_id for agent in agents],
                "ann_id": [agent.box_id for agent in agents],
                "role_object_id": filled,
                "label": [int(action in agent.done) for agent in agents],
            }
        )
    return content


def write(root: Path, params: WorldParams, progress: Progress) -> dict[str, Any]:
    """Figures: images and persons by split, and how often each action is done."""
    instances = Instances(coco_categories(), coco_category)
    box_ids: dict[int, dict[int, int]] = {}
    agents: dict[str, list[Agent]] = {"train": [], "val": [], "test": []}
    members: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for part, count in (("trainval", params.v_coco_trainval), ("test", params.v_coco_test)):
        for shot in shots("v_coco", part, count, params.seed):
            split = "test" if part == "test" else "train" if shot.number < count // 2 else "val"
            folder = "train2014" if split == "train" else "val2014"
            image_id = 3 * (shot.number + 1) + (1 if part == "test" else 0)
            name = f"COCO_{folder}_{image_id:012d}.jpg"
            save_picture(root / "images" / folder / name, shot.picture)
            box_ids[image_id] = instances.add(image_id, name, shot.picture)
            members[split].append(image_id)
            for number, thing in enumerate(shot.picture.things):
                if thing.category == "person":
                    agents[split].append(Agent(box_ids[image_id][number], image_id, _actions(shot.picture, number)))
            progress(1)
    save_json(root / "data/instances_vcoco_all_2014.json", instances.content)
    figures: dict[str, Any] = {}
    for split in ("train", "val", "trainval", "test"):
        parts = ("train", "val") if split == "trainval" else (split,)
        persons = [agent for part in parts for agent in agents[part]]
        save_json(root / f"data/vcoco/vcoco_{split}.json", _action_file(persons, box_ids))
        (root / "data/splits").mkdir(exist_ok=True)
        images = [image_id for part in parts for image_id in members[part]]
        (root / f"data/splits/vcoco_{split}.ids").write_text("".join(f"{image_id}\n" for image_id in images))
        if split in ("trainval", "test"):
            counts = Counter(action for agent in persons for action in agent.done)
            figures[split] = {
                "images": len(images),
                "persons": len(persons),
                "actions": {action: counts[action] for action in ACTIONS},
            }
    save_json(root / "classes.json", v_coco_classes())
    return figures
