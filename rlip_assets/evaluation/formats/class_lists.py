"""The class lists behind the numbers of published prediction files, and their translation by name into those of a benchmark.

| files of                      | HICO-DET objects          | V-COCO objects            | V-COCO verbs                         |
|-------------------------------|---------------------------|---------------------------|--------------------------------------|
| QPIC, CDN, RLIPv2             | order of the COCO ids     | order of the COCO ids     | 29 action roles                      |
| UPT, PViC, ADA-CM, CMMP       | alphabetical              | after a "background"      | 24 action roles, those with an object |
| GEN-VLKT, HOICLIP             | the 600 interactions by their official numbers            |                                      |

The 117 verbs of HICO-DET have one order everywhere. Sources: `datasets/hico.py` of github hitachi-rd-cv/qpic,
`instances_test2015.json` of fredzzhang/hicodet, `instances_vcoco_test.json` of fredzzhang/vcoco, `datasets/hico_text_label.py`
of YueLiao/gen-vlkt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlip_assets.datasets.sources.classes import coco_names, hico_classes, hico_verbs, official_table
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.json_values import TEXT, read_json, values
from rlip_assets.evaluation.v_coco.actions import OFFICIAL_VERBS
from rlip_assets.storage.errors import DataError

ABSENT = -1
"""In a translation: a class that the benchmark lacks."""
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassList:
    """The objects and verbs that numbers stand for; an empty name where a number names no class.

    Attributes:
        title: whose list it is, for messages.
        verbs: names as HICO-DET's texts, or action and role of V-COCO, such as "hit_instr".
    """

    title: str
    objects: tuple[str, ...]
    verbs: tuple[str, ...]

    def objects_in(self, vocabulary: Vocabulary) -> Labels:
        """Return (O + 1,) the benchmark's label for each of the list's; the last stands for "no object"."""
        index = _index(vocabulary.objects)
        return np.array([*(index.get(name, ABSENT) for name in self.objects), len(vocabulary.objects)], np.int64)

    def verbs_in(self, vocabulary: Vocabulary) -> Labels:
        """Return (V,) the benchmark's verb for each of the list's."""
        index = _index(verb_names(vocabulary)) | _index(vocabulary.verbs)
        published = canonical_verbs(vocabulary.dataset, self.verbs)
        known = [index.get(name, index.get(other, ABSENT)) for name, other in zip(self.verbs, published, strict=True)]
        return np.array(known, np.int64)


def _index(names: Sequence[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def verb_names(vocabulary: Vocabulary) -> tuple[str, ...]:
    """Return the verbs of a benchmark under the names that class lists use."""
    actions = vocabulary.groups.get("actions") if vocabulary.dataset == "v_coco" else None
    return canonical_verbs(vocabulary.dataset, actions if isinstance(actions, list) else vocabulary.verbs)


def canonical_verbs(dataset: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return verbs as class lists name them: texts for HICO-DET, action and role for V-COCO, of which texts are known too."""
    if dataset != "v_coco":
        return tuple(name.replace("_", " ") for name in names)
    of_text: Mapping[str, str] = {row["text"]: row["name"] for row in official_table("v_coco")["verbs"]}
    return tuple(of_text.get(name, name).replace(" ", "_") for name in names)


@cache
def coco_order(dataset: str) -> ClassList:
    """Return the list of QPIC and its successors."""
    return ClassList("QPIC, CDN and RLIPv2", tuple(coco_names().values()), _official_verbs(dataset))


@cache
def pair_order(dataset: str) -> ClassList:
    """Return the list of UPT and its successors, which is that of the annotation files of hicodet and vcoco."""
    title, objects = "UPT and PViC", tuple(coco_names().values())
    if dataset == "hico_det":
        return ClassList(title, tuple(sorted(objects)), _official_verbs(dataset))
    return ClassList(
        title, ("", *objects), tuple(name for name in _official_verbs(dataset) if name not in NOT_IN_PAIRS)
    )


@cache
def coco_ids(dataset: str) -> ClassList:
    """Return the list of annotation files in the form of PPDM: COCO category ids with their gaps, and verbs from 1."""
    names = coco_names()
    objects = tuple(names.get(number, "") for number in range(max(names) + 1))
    return ClassList("COCO's category ids", objects, ("", *_official_verbs(dataset)))


NOT_IN_PAIRS = ("stand", "walk", "run", "smile", "point_instr")
"""Action roles of V-COCO that its pair list leaves out."""


def own_order(vocabulary: Vocabulary, title: str = "the annotations") -> ClassList:
    """Return the benchmark's own list."""
    return ClassList(title, vocabulary.objects, verb_names(vocabulary))


def read_class_list(path: Path, dataset: str) -> ClassList:
    """Read a list from a JSON object with `objects` and `verbs` (or `relations`, or `classes`), such as an annotation file or classes.json.

    Raises:
        InputError: no such file, or not JSON.
        DataError: a list that is missing or holds something else than names.
    """
    content = read_json(path)
    where = str(path)
    key = next(
        (name for name in ("verbs", "relations", "classes") if isinstance(content, dict) and name in content), "verbs"
    )
    objects = [name.replace("_", " ") for name in values(content, "objects", TEXT, where)]
    objects = ["" if name == "background" else name for name in objects]
    verbs = canonical_verbs(dataset, values(content, key, TEXT, where))
    for kind, names in (("objects", objects), (key, verbs)):
        if not any(names):
            raise DataError(
                f"{where}: {kind} names no class; list the names that the numbers of the predictions stand for"
            )
        if len(set(names)) < len(names):
            raise DataError(f"{where} names a class twice; a list names each once")
    return ClassList(where, tuple(objects), verbs)


def is_official(vocabulary: Vocabulary) -> bool:
    """Return whether the benchmark has the published classes, in any order, so that published numbers have names in it."""
    if vocabulary.dataset not in ("hico_det", "v_coco") or set(vocabulary.objects) != set(coco_names().values()):
        return False
    verbs, official = set(verb_names(vocabulary)), set(_official_verbs(vocabulary.dataset))
    return verbs == official or (vocabulary.dataset == "v_coco" and verbs == official - set(NOT_IN_PAIRS))


def interactions(class_list: ClassList) -> Labels:
    """Return (600, 2) verb and object of HICO-DET's interactions in a list's numbers, by their official numbers from 0."""
    official = hico_classes()
    verbs, objects = official.relations or [], official.objects
    of_verb, of_object = _index(class_list.verbs), _index(class_list.objects)
    return np.array(
        [(of_verb[verbs[verb]], of_object[objects[label]]) for verb, label in official.hois or []], np.int64
    )


def _official_verbs(dataset: str) -> tuple[str, ...]:
    return tuple(hico_verbs().values()) if dataset == "hico_det" else OFFICIAL_VERBS
