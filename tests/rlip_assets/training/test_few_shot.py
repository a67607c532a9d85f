"""Few-shot shares cover every class; released lists are taken as they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlip_assets.datasets.scenes import Scene, make_scene
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.training.few_shot import listed_images, read_image_list, select_share
from rlip_assets.training.unseen import triplet_texts

BOXES = [(0, 0, 5, 5), (1, 1, 6, 6)]


def scene(number: int, relation: str, thing: str) -> Scene:
    return make_scene(number, "hico_det", "train", f"{number}.jpg", 9, 9, BOXES, ["person", thing], [(0, 1, relation)])


@given(st.integers(0, 50), st.sampled_from([0.05, 0.1, 0.3]))
@settings(max_examples=20, deadline=None)
def test_shares_have_their_size_and_cover_all_classes(seed: int, share: float) -> None:
    generator = np.random.default_rng(seed)
    scenes = [scene(i, f"v{generator.integers(6)}", f"o{generator.integers(5)}") for i in range(200)]
    chosen = select_share(scenes, share, seed)
    assert len(chosen) == len(set(chosen)) == int(200 * share)
    found = {pair for index in chosen for pair in triplet_texts(scenes[index])}
    assert {relation for relation, _ in found} == {s.relation[0] for s in scenes}
    assert {thing for _, thing in found} == {s.labels[1] for s in scenes}
    assert chosen == select_share(scenes, share, seed)


def test_another_seed_gives_other_images() -> None:
    scenes = [scene(i, f"v{i % 3}", f"o{i % 2}") for i in range(100)]
    assert select_share(scenes, 0.1, 1) != select_share(scenes, 0.1, 2)


def test_a_cover_is_found_where_random_draws_fail() -> None:
    scenes = [scene(i, "hold", "cup") for i in range(400)] + [scene(400 + i, f"v{i}", f"o{i}") for i in range(9)]
    chosen = select_share(scenes, 10 / 409, 0)
    assert len(chosen) == 10
    assert set(range(400, 409)) <= set(chosen)


def test_too_small_a_share_is_refused() -> None:
    with pytest.raises(DataError, match="2 of 20 images cannot hold every relation"):
        select_share([scene(i, f"v{i}", f"o{i}") for i in range(20)], 0.1, 0)


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_released_split_is_taken_as_it_is(tmp_path: Path, form: str) -> None:
    """Order and repeats included."""
    scenes = [make_scene(str(i), "d", "train", f"images/{i}.jpg", 9, 9, [], [], []) for i in range(5)]
    names = ["3.jpg", "1.jpg", "3.jpg"]
    records = [{"file_name": name, "annotations": [], "hoi_annotation": []} for name in names]
    path = tmp_path / "split"
    path.write_text(json.dumps(records) if form == "json" else "\n".join(f"train2015/{name}" for name in names) + "\n")
    assert listed_images(scenes, read_image_list(path), "split") == [3, 1, 3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("9.jpg\n1.jpg", "split lists 1 images without training triplets, such as 9.jpg"),
        ("", "split is empty"),
        ("[1, 2]", "no list of records with file_name"),
        ("[{", "no list of records with file_name"),
    ],
)
def test_a_split_of_something_else_is_refused(tmp_path: Path, text: str, words: str) -> None:
    scenes = [make_scene("1", "d", "train", "1.jpg", 9, 9, [], [], [])]
    path = tmp_path / "split"
    path.write_text(text)
    with pytest.raises((DataError, InputError), match=words):
        listed_images(scenes, read_image_list(path), "split")


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="set image_list"):
        read_image_list(tmp_path / "nowhere")
