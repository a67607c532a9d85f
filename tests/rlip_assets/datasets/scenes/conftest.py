"""Arbitrary scenes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from rlip_assets.datasets.scenes import Scene

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
PIXELS = st.floats(-1e4, 1e4, width=32)


@st.composite
def scene_strategy(draw: st.DrawFn) -> Scene:
    """A row that `check_scene` accepts: any texts, any finite boxes, human and pseudo triplets, triplets without object."""
    entities = draw(st.integers(0, 5))
    triplets = draw(st.integers(0, 5)) if entities else 0
    boxes = draw(st.lists(st.tuples(PIXELS, PIXELS, PIXELS, PIXELS), min_size=entities, max_size=entities))
    many: dict[str, Any] = {"min_size": triplets, "max_size": triplets}
    confidence = draw(st.lists(st.just(np.nan) | st.floats(0, 1, width=32), **many))
    return Scene(
        image_id=draw(TEXTS.filter(bool)),
        dataset=draw(st.sampled_from(["coco", "visual_genome"])),
        split=draw(st.sampled_from(["train", "val", "test"])),
        file_name=draw(TEXTS),
        width=draw(st.integers(1, 2**31 - 1)),
        height=draw(st.integers(1, 2**31 - 1)),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=tuple(draw(st.lists(TEXTS, min_size=entities, max_size=entities))),
        subject=np.array(draw(st.lists(st.integers(0, max(entities - 1, 0)), **many)), np.int32),
        object=np.array(draw(st.lists(st.integers(-1, max(entities - 1, 0)), **many)), np.int32),
        relation=tuple(draw(st.lists(TEXTS, **many))),
        confidence=np.array(confidence, np.float32),
    )


def table_strategy(max_size: int = 7) -> st.SearchStrategy[list[Scene]]:
    """Rows of a table: every image id once."""
    return st.lists(scene_strategy(), max_size=max_size, unique_by=lambda scene: scene.image_id)


@pytest.fixture(scope="session")
def tables() -> st.SearchStrategy[list[Scene]]:
    return table_strategy()
