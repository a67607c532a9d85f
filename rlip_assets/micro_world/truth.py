"""The true relations of COCO and Objects365 images, kept apart from the raw data and used for measuring alone."""

from __future__ import annotations

from collections.abc import Iterable

from rlip_assets.labelling.true_relations import TrueRelation
from rlip_assets.micro_world.picture import Picture
from rlip_assets.micro_world.wording import accepted
from rlip_assets.micro_world.world import IMPLIED


def true_relations(image_id: str, picture: Picture, boxed: Iterable[int]) -> list[TrueRelation]:
    """Return the relations between things that the dataset annotates; `boxed`: their indices in the order of the boxes."""
    position = {thing: row for row, thing in enumerate(boxed)}
    return [
        TrueRelation(
            image_id,
            position[relation.subject],
            position[relation.object],
            relation.text,
            accepted(relation.text),
            [text for implied in IMPLIED.get(relation.text, ()) for text in accepted(implied)],
            relation.spatial,
        )
        for relation in picture.relations
        if relation.subject in position and relation.object in position
    ]
