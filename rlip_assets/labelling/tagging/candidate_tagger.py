"""Scoring candidates with the R-Tagger.

`union` (default): an image is encoded once with all of its candidate texts; its pairs go through the decoders in chunks of P, the last one
filled up with other pairs as in training; a pair is scored for the texts that are candidates of its classes. Several images share a
forward pass, and then its texts.

`published`: candidates, pair by pair, are cut into groups of P entries; the image is encoded again for every group, with the texts of all
groups in the forward pass; every text is scored for every pair, whatever its classes.

Shape legend: B images, R decoder rows (chunks or groups), P pair slots, T texts, Nv relation texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlip_assets.datasets.scenes import Scene
from rlip_assets.inference.text_vectors import TextVectors
from rlip_assets.labelling.label_tables import CandidateRow
from rlip_assets.labelling.tagging.filters import Labels
from rlip_assets.lineage.params.labels import TaggingParams
from rlip_assets.training.micro_batches import MicroBatches
from rlip_assets.training.targets import unit_boxes
from rlip_model import NO_OBJECTS, Checkpoint, TaggerPairs
from rlip_model.tagger import PairParts, collate_pairs, score_pairs
from rlip_model.vision.images import stack_images

Pair = tuple[int, int]
Entry = tuple[int, int, str]
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TaggingImage:
    """An image to be tagged: its scene, its candidates and its pixels (3, H, W), normalised."""

    scene: Scene
    candidates: CandidateRow
    pixels: Tensor


def pairs_to_tag(scene: Scene, candidates: CandidateRow, slots: int) -> list[Pair]:
    """Return the pairs of an image's candidates, each once, then other pairs of its boxes until the last chunk of `slots` is full.

    In training an image's pairs are those with relations and others up to the tagger's slots. Pairs see each other in the decoder, and
    without this company their scores rank worse. It costs nothing: empty slots are computed too.
    """
    pairs = dict.fromkeys(zip(candidates.subject, candidates.object, strict=True))
    if pairs:
        boxes = range(len(scene.labels))
        others = ((i, j) for i in boxes for j in boxes if i != j and (i, j) not in pairs)
        pairs |= dict.fromkeys(islice(others, -len(pairs) % slots))
    return list(pairs)


class CandidateTagger:
    """An R-Tagger with the object texts of one dataset."""

    def __init__(self, checkpoint: Checkpoint, objects: Sequence[str], params: TaggingParams) -> None:
        """
        Args:
            objects: class texts of the dataset, all of them; every box label is one.
        """
        self.model = checkpoint.model.eval()
        self.params = params
        self._batches = MicroBatches(
            params.batch_size, "train the R-Tagger with a smaller augmentation.test_short_side"
        )
        self.slots = checkpoint.config.pairs
        self.device = next(self.model.parameters()).device
        self._number = {text: number for number, text in enumerate(objects)}
        self._checkpoint = checkpoint
        self.forget_texts()
        self._objects = self.vectors([*objects, NO_OBJECTS])

    def forget_texts(self) -> None:
        """Forget the vectors of relation texts: images that are scored after this have the scores that a new tagger gives them, to the bit,
        whichever images came before."""
        self.vectors = TextVectors(self._checkpoint)

    def wordings(self, candidates: CandidateRow) -> list[tuple[str, ...]]:
        """The texts that the tagger is asked about, for each candidate."""
        if self.params.wording == "relation":
            return [(relation,) for relation in candidates.relation]
        if self.params.wording == "surface":
            return [(surface,) for surface in candidates.surface]
        return [tuple(dict.fromkeys(both)) for both in zip(candidates.relation, candidates.surface, strict=True)]

    def batches(self, images: Sequence[TaggingImage]) -> Iterator[list[TaggingImage]]:
        """Cut images into forward passes of at most `batch_size` images that together have at most `max_texts` texts."""
        batch: list[TaggingImage] = []
        texts: set[str] = set()
        for image in images:
            own = {text for words in self.wordings(image.candidates) for text in words}
            if batch and (len(batch) == self.params.batch_size or len(texts | own) > self.params.max_texts):
                yield batch
                batch, texts = [], set()
            batch.append(image)
            texts |= own
        if batch:
            yield batch

    def tag(self, images: Sequence[TaggingImage]) -> list[Labels]:
        """Score the candidates of some images, which share a forward pass; one `Labels` an image, every candidate once."""
        if self.params.groups == "published":
            return [self._tag_published(image) for image in images]
        return self._tag_union(images)

    @torch.inference_mode()
    def _tag_union(self, images: Sequence[TaggingImage]) -> list[Labels]:
        wordings = [self.wordings(image.candidates) for image in images]
        texts = list(dict.fromkeys(text for words in wordings for several in words for text in several))
        if not texts:
            return [Labels.of([], [], [], []) for _ in images]
        column = {text: number for number, text in enumerate(texts)}
        pooled = torch.cat([self._objects, self.vectors(texts)])
        pixels, mask = stack_images([image.pixels for image in images])
        pairs = [pairs_to_tag(image.scene, image.candidates, self.slots) for image in images]

        def score(part: Sequence[int]) -> list[Scores]:
            """Scores of some of the images, with the texts and the padding of all."""
            chosen = list(part)
            given = [self._parts(images[image].scene, pairs[image]) for image in chosen]
            shown = pixels[chosen].to(self.device), mask[chosen].to(self.device)
            found = score_pairs(self.model, *shown, pooled, len(self._objects), given, self._batches.rows)
            return [table.numpy() for table in found]

        scores = self._batches(score, range(len(images)))
        return [
            self._labels(image.candidates, words, pairs[row], scores[row], column)
            for row, (image, words) in enumerate(zip(images, wordings, strict=True))
        ]

    @staticmethod
    def _labels(
        candidates: CandidateRow,
        wordings: Sequence[tuple[str, ...]],
        pairs: Sequence[Pair],
        scores: Scores,
        column: dict[str, int],
    ) -> Labels:
        """Candidates with the score of their best wording."""
        if not pairs:
            return Labels.of([], [], [], [])
        place = {pair: number for number, pair in enumerate(pairs)}
        confidence = [
            max(scores[place[pair], column[text]] for text in words)
            for pair, words in zip(zip(candidates.subject, candidates.object, strict=True), wordings, strict=True)
        ]
        return Labels.of(candidates.subject, candidates.object, candidates.relation, confidence)

    @torch.inference_mode()
    def _tag_published(self, image: TaggingImage) -> Labels:
        entries = list(zip(image.candidates.subject, image.candidates.object, image.candidates.relation, strict=True))
        entries.sort(key=lambda entry: entry[:2])
        groups = [entries[start : start + self.slots] for start in range(0, len(entries), self.slots)]
        found: list[tuple[int, int, str, float]] = []
        for start in range(0, len(groups), self.params.batch_size):
            part = groups[start : start + self.params.batch_size]
            texts = list(dict.fromkeys(relation for group in part for _, _, relation in group))
            for group, values in zip(part, self._group_scores(image, part, texts), strict=True):
                above = np.argwhere(values[: len(group)] > self.params.store_threshold)
                found += [(*group[i][:2], texts[v], float(values[i, v])) for i, v in above.tolist()]
        columns = list(zip(*found, strict=True)) or [(), (), (), ()]
        return Labels.of(*columns)

    def _group_scores(
        self, image: TaggingImage, groups: Sequence[Sequence[Entry]], texts: Sequence[str]
    ) -> list[Scores]:
        """Return the (P, Nv) scores of each group, each with its own encoding of the image."""
        pooled = torch.cat([self._objects, self.vectors(texts)])

        def score(part: Sequence[Sequence[Entry]]) -> list[Scores]:
            pixels, mask = stack_images([image.pixels] * len(part))
            queries = self._queries([(image.scene, [(s, o) for s, o, _ in group]) for group in part])
            out = self.model(pixels.to(self.device), mask.to(self.device), pooled, len(self._objects), pairs=queries)
            return list(out.relation_logits[-1].float().sigmoid().cpu().numpy())

        return self._batches(score, groups)

    def _queries(self, rows: Sequence[tuple[Scene, Sequence[Pair]]]) -> TaggerPairs:
        """Pairs of boxes as the tagger's queries, one row of at most P pairs each."""
        return collate_pairs([self._parts(scene, pairs) for scene, pairs in rows], self.slots).to(self.device)

    def _parts(self, scene: Scene, pairs: Sequence[Pair]) -> PairParts:
        """Boxes and labels of some pairs of a scene."""
        boxes = torch.from_numpy(unit_boxes(scene)).clamp(0, 1)
        labels = torch.tensor([self._number[label] for label in scene.labels], dtype=torch.int64)
        sub, obj = (torch.tensor([pair[role] for pair in pairs], dtype=torch.int64) for role in (0, 1))
        return boxes[sub], boxes[obj], labels[sub], labels[obj]
