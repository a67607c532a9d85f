"""What parsing gives: triplets of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TextTriplet:
    """A (subject, relation, object) statement of a caption.

    `subject` and `object` are noun phrases without determiners whose last word, the head, is in the singular; `relation` is the lemma of
    the verb with its prepositions ("sit on"), `surface` the same as written ("sitting on").
    """

    subject: str
    relation: str
    surface: str
    object: str


CaptionParser = Callable[[Sequence[str]], list[list[TextTriplet]]]
"""Captions to the triplets of each."""
