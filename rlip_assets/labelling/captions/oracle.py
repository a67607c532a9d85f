"""Captions that know the truth: what the lineage would have to work with if its captioner never erred. For studies only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from rlip_assets.datasets.scenes import Scene
from rlip_assets.micro_world.captions import with_article
from rlip_assets.micro_world.truth import TrueRelation, read_truth
from rlip_assets.micro_world.wording import PREPOSITIONS, pick_form
from rlip_assets.storage.errors import InputError

if TYPE_CHECKING:
    from PIL import Image


class TrueCaptions:
    """Takes the place of a captioner: one sentence a true relation of an image; an image without relations has none.

    Args:
        scenes: the images that it may be asked for.
        truth: table of the dataset's true relations.
        seed: draws the wording, with the image.

    Raises:
        InputError: the dataset has no such table.
    """

    def __init__(self, scenes: Sequence[Scene], truth: Path, seed: int) -> None:
        if not truth.is_file():
            raise InputError(f"oracle.captions needs {truth}, which only the micro world has; set it to false")
        self.seed = seed
        self._scenes = {scene.image_id: scene for scene in scenes}
        self._relations: dict[str, list[TrueRelation]] = defaultdict(list)
        for relation in read_truth(truth):
            self._relations[relation.image_id].append(relation)

    def __call__(self, image_ids: Sequence[str], images: Sequence[Image.Image]) -> list[list[str]]:
        """Captions of a batch, one list an image."""
        del images
        return [
            [
                sentence(self._scenes[image_id], relation, Random(f"oracle/{self.seed}/{image_id}/{number}"))
                for number, relation in enumerate(self._relations[image_id])
            ]
            for image_id in image_ids
        ]


def sentence(scene: Scene, relation: TrueRelation, rng: Random) -> str:
    """ "a person is riding a horse"."""
    subject, target = (with_article(scene.labels[index]) for index in (relation.subject, relation.object))
    form = pick_form(relation.relation, rng)[0]
    verb = form if relation.relation in PREPOSITIONS and rng.random() < 0.5 else f"is {form}"
    return f"{subject} {verb} {target}"
