"""Captions that know the truth: what the lineage would have to work with if its captioner never erred. For studies only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random

from rlip_assets.errors import InputError
from rlip_assets.label_tables import CaptionRow
from rlip_assets.micro_world.captions import with_article
from rlip_assets.micro_world.truth import TrueRelation, read_truth
from rlip_assets.micro_world.wording import PREPOSITIONS, pick_form
from rlip_assets.scenes import Scene


def true_captions(scenes: Sequence[Scene], truth: Path, seed: int) -> list[CaptionRow]:
    """One sentence a true relation of each scene, in a wording drawn by seed and image; an image without relations has none.

    Args:
        truth: table of the dataset's true relations.

    Raises:
        InputError: the dataset has no such table.
    """
    if not truth.is_file():
        raise InputError(f"oracle.captions needs {truth}, which only the micro world has; set it to false")
    relations: dict[str, list[TrueRelation]] = defaultdict(list)
    for relation in read_truth(truth):
        relations[relation.image_id].append(relation)
    return [
        CaptionRow(
            scene.image_id,
            [
                _sentence(scene, relation, Random(f"oracle/{seed}/{scene.image_id}/{number}"))
                for number, relation in enumerate(relations[scene.image_id])
            ],
        )
        for scene in scenes
    ]


def _sentence(scene: Scene, relation: TrueRelation, rng: Random) -> str:
    """ "a person is riding a horse"."""
    subject, target = (with_article(scene.labels[index]) for index in (relation.subject, relation.object))
    form = pick_form(relation.relation, rng)[0]
    verb = form if relation.relation in PREPOSITIONS and rng.random() < 0.5 else f"is {form}"
    return f"{subject} {verb} {target}"
