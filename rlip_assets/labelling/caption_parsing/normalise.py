"""The normal form of a relation that stands alone, as in a table of predicates."""

from __future__ import annotations

from functools import lru_cache

from rlip_assets.labelling.caption_parsing.lemmas import tokens, verb_lemma
from rlip_assets.labelling.caption_parsing.rules import parse_caption

_FRAMES = ("a man {} a dog", "men {} a dog")


@lru_cache(maxsize=65_536)
def relation_lemma(text: str) -> str:
    """Normal form of a relation text: "riding", "rides" -> "ride"; "is sitting on" -> "sit on"; "on the side of" -> "on side of".

    The same as the parser gives for a caption with that wording; a text that is no relation in a sentence keeps its words, the first
    one as a verb.
    """
    for frame in _FRAMES:
        found = parse_caption(frame.format(text))
        if len(found) == 1 and found[0].object == "dog" and found[0].subject == "man":
            return found[0].relation
    words = tokens(text)
    return " ".join([verb_lemma(words[0]), *words[1:]]) if words else ""
