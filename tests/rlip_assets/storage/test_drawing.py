"""Overlays: every drawn relation is listed, boxes stay where they are, hostile input does not break the page."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rlip_assets.inference.predict import draw_file, read_relations
from rlip_assets.storage.drawing import draw_triplets
from rlip_assets.storage.errors import DataError
from rlip_assets.storage.images import open_image
from rlip_model.triplets import Triplet
from tests.support.facts import PHOTOS

HAND_WRITTEN = sorted((Path(__file__).parent / "photo_relations").glob("*.json"))

PHOTO = Image.new("RGB", (960, 600), "gray")
RIDE = Triplet("person", "ride", "horse", (100, 50, 200, 250), (80, 150, 320, 380), 0.9)


def changed(a: Image.Image, b: Image.Image) -> np.ndarray:
    return np.any(np.asarray(a) != np.asarray(b), axis=2)


def test_box_edges_are_drawn_at_the_box() -> None:
    page = draw_triplets(PHOTO, [RIDE], "model")
    marks = changed(page.crop((0, 0, 960, 600)), PHOTO)
    assert all(marks[y, x] for x, y in ((100, 240), (80, 160), (200, 379)))
    assert not marks[:40].any()
    assert not marks[:, 330:].any()


def test_panel_grows_with_the_list_and_keeps_the_best() -> None:
    many = [Triplet("person", f"relation {i}", "horse", (0, 0, 50, 50), (60, 60, 90, 90), i / 100) for i in range(30)]
    assert draw_triplets(PHOTO, many, "model").size == draw_triplets(PHOTO, many[-10:], "model").size
    assert not changed(draw_triplets(PHOTO, many, "model"), draw_triplets(PHOTO, many[-10:], "model")).any()
    assert draw_triplets(PHOTO, many, "model", limit=30).height > draw_triplets(PHOTO, many, "model").height


def test_small_photos_are_enlarged_and_large_ones_reduced() -> None:
    assert draw_triplets(Image.new("RGB", (128, 96)), [RIDE], "model").height >= 420
    assert draw_triplets(Image.new("RGB", (5000, 100)), [RIDE], "model").width < 1700


def test_same_entity_is_one_box() -> None:
    twice = [RIDE, Triplet("person", "feed", "horse", (101, 50, 200, 251), (80, 150, 320, 380), 0.8)]
    page = draw_triplets(PHOTO, twice, "model")
    colors = {color for _, color in page.crop((0, 0, 960, 600)).getcolors(1 << 20) or []}
    assert (0xF5, 0x82, 0x31) not in colors  # a third entity would have the third colour


coordinate = st.floats(-1e4, 1e4, allow_nan=False)


@settings(max_examples=30, deadline=None)
@given(
    box=st.tuples(coordinate, coordinate, coordinate, coordinate).map(
        lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
    ),
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    text=st.text(max_size=40),
)
def test_any_box_and_text_gives_a_page(
    box: tuple[float, float, float, float], size: tuple[int, int], text: str
) -> None:
    page = draw_triplets(Image.new("RGB", size), [Triplet(text, text, text, box, box, 0.5)], text)
    assert page.mode == "RGB"
    assert page.height >= 100


def test_long_texts_end_in_an_ellipsis_and_leave_the_score_readable() -> None:
    def panel(relation: str, note: str) -> Image.Image:
        page = draw_triplets(PHOTO, [replace(RIDE, relation=relation)], "model", note)
        return page.crop((960, 0, page.width, page.height))

    short, long = panel("ride", ""), panel("r" * 10_000, "n" * 10_000)
    score = (short.width - 50, 60, short.width, 110)
    assert not changed(short.crop(score), long.crop(score)).any()
    edge = np.asarray(long.crop((long.width - 10, 0, long.width, long.height)))
    assert (edge == 255).all()


def test_names_and_numbers_do_not_hide_each_other() -> None:
    """Three entities whose boxes begin at the same corner, and a short arrow between two of them."""
    boxes = [(200.0, 200.0, 200.0 + 150 * k, 200.0 + 100 * k) for k in (1, 2, 3)]
    triplets = [
        Triplet("first", "in", "second", boxes[0], boxes[1], 0.9),
        Triplet("second", "in", "third", boxes[1], boxes[2], 0.8),
    ]
    page = np.asarray(draw_triplets(PHOTO, triplets, "model").crop((0, 0, 960, 600)))
    for color in ((0xE6, 0x19, 0x4B), (0x00, 0x82, 0xC8), (0xF5, 0x82, 0x31)):
        # A whole chip beside the box's thin edge: rows in which much of the colour lies together.
        marks = (page == color).all(-1)
        together = max(int(marks[y : y + 12, x : x + 30].sum()) for y in range(170, 510, 4) for x in range(180, 660, 4))
        assert together > 200


@pytest.mark.parametrize("file", HAND_WRITTEN, ids=lambda file: file.stem)
def test_ten_relations_on_a_photograph(file: Path, tmp_path: Path) -> None:
    """The hand-written lists that the layout was judged by, looked at when it changes."""
    _, triplets = read_relations(file)
    assert len(triplets) == 10
    photo = PHOTOS / f"{file.stem}.jpg"
    draw_file(photo, file, tmp_path / "page.png")
    size = open_image(photo).size
    page = open_image(tmp_path / "page.png")
    assert (page.width - 430) / page.height == pytest.approx(size[0] / size[1], rel=0.01)
    for triplet in triplets:
        for x1, y1, x2, y2 in filter(None, (triplet.subject_box, triplet.object_box)):
            assert 0 <= x1 < x2 <= size[0]
            assert 0 <= y1 < y2 <= size[1]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("[1", "is no JSON"),
        ("[]", "no list `relations`"),
        ('{"relations": [{"subject": "dog"}]}', "relation 1"),
        (
            '{"relations": [{"subject": "dog", "relation": "see", "object": "cat", "subject_box": [0, 0, 9], '
            '"object_box": null, "score": 0.5}]}',
            "relation 1",
        ),
    ],
)
def test_a_bad_relations_file_is_named(content: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(DataError, match=word) as caught:
        read_relations(tmp_path / "bad.json")
    assert "bad.json" in str(caught.value)
