"""The simulated captioner: captions as they would be if the captioner never erred, worded from the truth. For studies only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from rlip_assets.datasets.scenes import Scene
from rlip_assets.labelling.captions.stage import caption_bucket
from rlip_assets.labelling.true_relations import TrueRelation, read_true_relations
from rlip_assets.lineage.context import StageContext
from rlip_assets.micro_world.captions import with_article
from rlip_assets.micro_world.wording import PREPOSITIONS, pick_form
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.files import sha256_folder

if TYPE_CHECKING:
    from PIL import Image


def simulated_caption_stage(ctx: StageContext) -> dict[str, Any]:
    """Run the stage `captions` without a captioner. Inputs: those of `caption_stage`, and `truth` (DATASET.parquet).

    Raises:
        InputError: the dataset has no true relations; else as `caption_stage`.
    """
    table = ctx.inputs["truth"] / f"{(ctx.partition or '').rpartition('-')[0]}.parquet"
    if not table.is_file():
        raise InputError(f"oracle.captions needs {table}, which only the micro world has; set it to false")
    captioner = SimulatedCaptioner(read_true_relations(table), ctx.params.captions.seed)
    return caption_bucket(ctx, captioner, {"truth": sha256_folder(ctx.inputs["truth"])})


@dataclass(frozen=True)
class SimulatedCaptioner:
    """One sentence per true relation of an image; an image without relations has none.

    Attributes:
        relations: true relations by image id.
        seed: draws the wording, with the image.
    """

    relations: Mapping[str, Sequence[TrueRelation]]
    seed: int

    def __call__(self, scenes: Sequence[Scene], images: Sequence[Image.Image]) -> list[list[str]]:
        """Return the captions of each scene."""
        del images
        return [
            [
                sentence(scene, relation, Random(f"oracle/{self.seed}/{scene.image_id}/{number}"))
                for number, relation in enumerate(self.relations.get(scene.image_id, ()))
            ]
            for scene in scenes
        ]


def sentence(scene: Scene, relation: TrueRelation, rng: Random) -> str:
    """Return a sentence such as "a person is riding a horse"."""
    subject, target = (with_article(scene.labels[index]) for index in (relation.subject, relation.object))
    form = pick_form(relation.relation, rng)[0]
    verb = form if relation.relation in PREPOSITIONS and rng.random() < 0.5 else f"is {form}"
    return f"{subject} {verb} {target}"
