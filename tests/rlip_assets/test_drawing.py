"""Overlays: every drawn relation is listed, boxes stay where they are, hostile input does not break the page."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rlip_assets.drawing import draw_triplets
from rlip_model.triplets import Triplet

PHOTO = Image.new("RGB", (640, 400), "gray")
RIDE = Triplet("person", "ride", "horse", (100, 50, 200, 250), (80, 150, 320, 380), 0.9)


def changed(a: Image.Image, b: Image.Image) -> np.ndarray:
    return np.any(np.asarray(a) != np.asarray(b), axis=2)


def test_box_edges_are_drawn_at_the_box() -> None:
    page = draw_triplets(PHOTO, [RIDE], "model")
    marks = changed(page.crop((0, 0, 640, 400)), PHOTO)
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
    colors = {color for _, color in page.crop((0, 0, 640, 400)).getcolors(1 << 20) or []}
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
        return page.crop((640, 0, page.width, page.height))

    short, long = panel("ride", ""), panel("r" * 10_000, "n" * 10_000)
    score = (short.width - 50, 60, short.width, 110)
    assert not changed(short.crop(score), long.crop(score)).any()
    edge = np.asarray(long.crop((long.width - 10, 0, long.width, long.height)))
    assert (edge == 255).all()
