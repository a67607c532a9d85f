"""Training texts of the text encoder: captions, phrases that paraphrase each other, and the label texts it will have to tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rlip_assets.datasets.sources.classes import official_table
from rlip_assets.micro_world.captions import caption_corpus
from rlip_assets.micro_world.starting_weights.paraphrases import Pair, Paraphrases, find_paraphrases, noun_lexicon
from rlip_assets.micro_world.vocabularies import category_text
from rlip_assets.micro_world.wording import FORMS
from rlip_assets.micro_world.world import CATEGORIES, OPEN_IMAGES_PERSONS
from rlip_assets.training.label_lists import MISSING
from rlip_model import NO_OBJECTS

SAME_COMPANY = 0.5
"""Two phrases with at least this share of their paraphrases in common are not taken for different ones."""


def label_texts() -> list[str]:
    """Texts of the class lists that the stages of the lineage feed to the encoder, in alphabetical order."""
    texts = {MISSING, NO_OBJECTS, *FORMS}
    for category, entry in CATEGORIES.items():
        finer = {category_text(category, sprite, "objects365") for sprite in entry.sprites}
        texts |= {category, entry.open_images.lower(), *(text for text in finer if text is not None)}
    texts |= {name.lower() for name in OPEN_IMAGES_PERSONS.values()}
    texts |= {row["text"] for table in ("hico_det", "v_coco") for row in official_table(table)["verbs"]}
    texts |= {row["name"] for row in official_table("coco")["objects"]}
    return sorted(texts)


def caption_scenes(seed: int, count: int, captions: int) -> list[list[str]]:
    """Up to `captions` different sentences about each of `count` scenes."""
    return [sentences for _, sentences in caption_corpus(seed, count, captions)]


@dataclass(frozen=True)
class PhraseCorpus:
    """Phrases with the pairs to pull together.

    phrases: all texts; weights: pair (i, j) of phrase numbers -> how often it is drawn. Held-out pairs are not in it.
    """

    phrases: tuple[str, ...]
    weights: Mapping[tuple[int, int], float]

    @cached_property
    def close(self) -> npt.NDArray[np.bool_]:
        """(N, N): phrases that must not be pushed apart.

        These are pairs, phrases that keep the same company, and texts of which one says the other and more ("bird", "wild bird") as far as
        captions do not use them.
        """
        count = len(self.phrases)
        paired = np.eye(count, dtype=bool)
        for first, second in self.weights:
            paired[first, second] = paired[second, first] = True
        links = paired.astype(np.float64)
        common, degree = links @ links, links.sum(1)
        company = common / (degree[:, None] + degree[None] - common) >= SAME_COMPANY
        words = [frozenset(phrase.split()) for phrase in self.phrases]
        alone = degree == 1
        parts = np.array([[a < b or b < a for b in words] for a in words])
        close: npt.NDArray[np.bool_] = paired | (company & (common > 1)) | (parts & (alone[:, None] | alone[None]))
        return close

    def draw(self, number: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
        """(number, 2) pairs of phrase numbers; a phrase without any paraphrase comes as its own pair."""
        pairs = np.array([*self.weights, *((index, index) for index in self._singles)])
        chosen = generator.choice(len(pairs), size=number, p=self._shares)
        drawn: npt.NDArray[np.int64] = pairs[chosen]
        return drawn

    @cached_property
    def _singles(self) -> list[int]:
        used = {index for pair in self.weights for index in pair}
        return [index for index in range(len(self.phrases)) if index not in used]

    @cached_property
    def _shares(self) -> npt.NDArray[np.float64]:
        """Half of the draws are paraphrases, half phrases by themselves."""
        weights = np.array(list(self.weights.values()))
        singles = np.ones(len(self._singles))
        return np.concatenate([weights / weights.sum() / 2, singles / singles.sum() / 2])


@dataclass(frozen=True)
class HeldOut:
    """Paraphrase pairs kept from training, and all that are known, by kind ("predicates", "nouns")."""

    pairs: dict[str, list[Pair]]
    known: dict[str, Paraphrases]


def build_corpus(scenes: Sequence[Sequence[str]], held_out_share: float, seed: int) -> tuple[PhraseCorpus, HeldOut]:
    """Find the paraphrases of a caption corpus and keep a share of them aside.

    A pair is kept aside only if both its phrases still have another paraphrase.
    """
    nouns = noun_lexicon(sentence for scene in scenes for sentence in scene)
    predicates, names = find_paraphrases(scenes, nouns)
    known = {"predicates": predicates, "nouns": names}
    aside = {kind: _keep_aside(found, held_out_share, seed) for kind, found in known.items()}
    phrases = sorted({*predicates.phrases, *names.phrases, *label_texts()})
    number = {phrase: index for index, phrase in enumerate(phrases)}
    weights = {
        (number[first], number[second]): float(count) ** 0.5
        for kind, found in known.items()
        for (first, second), count in found.pairs.items()
        if (first, second) not in aside[kind]
    }
    return PhraseCorpus(tuple(phrases), weights), HeldOut(aside, known)


def _keep_aside(found: Paraphrases, share: float, seed: int) -> list[Pair]:
    pairs = list(found.pairs)
    left = {phrase: len(found.neighbours(phrase)) for phrase in found.phrases}
    aside: list[Pair] = []
    for index in np.random.default_rng(seed).permutation(len(pairs)).tolist():
        pair = pairs[index]
        if len(aside) < share * len(pairs) and all(left[phrase] > 1 for phrase in pair):
            aside.append(pair)
            for phrase in pair:
                left[phrase] -= 1
    return aside
