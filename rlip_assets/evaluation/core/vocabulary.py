"""The classes of a benchmark, as its `classes.json` names them. Nothing in the evaluators fixes how many there are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core.protocols import NO_UV
from rlip_assets.storage.errors import DataError, InputError

PERSON = "person"


@dataclass(frozen=True)
class Vocabulary:
    """Object classes, verbs, and what the benchmark says about their combinations.

    Attributes:
        dataset: dataset id, such as "hico_det".
        objects: object class names; labels index into it, `len(objects)` means "no object".
        verbs: relation names.
        hois: (verb, object) of every interaction class, or empty when every combination is allowed.
        rare: ids of the interaction classes with fewer than 10 training instances.
        splits: zero-shot setting ("uc_rf", ...) to the ids of its unseen interaction classes.
        groups: any named groups of verbs, as read.
    """

    dataset: str
    objects: tuple[str, ...]
    verbs: tuple[str, ...]
    hois: tuple[tuple[int, int], ...] = ()
    rare: tuple[int, ...] = ()
    splits: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    groups: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def person(self) -> int:
        """Label of the person class.

        Raises:
            DataError: no class of that name.
        """
        if PERSON not in self.objects:
            raise DataError(
                f"the {self.dataset} classes have no object {PERSON!r}; this benchmark needs one as its subject"
            )
        return self.objects.index(PERSON)

    @cached_property
    def valid(self) -> npt.NDArray[np.bool_]:
        """(V, O + 1) which verb goes with which object; the last column, "no object", goes with every verb."""
        valid = np.full((len(self.verbs), len(self.objects) + 1), not self.hois)
        for verb, label in self.hois:
            valid[verb, label] = True
        valid[:, -1] = True
        return valid

    @cached_property
    def hoi_keys(self) -> npt.NDArray[np.int64]:
        """(H,) class key of every interaction: object label times number of verbs plus verb."""
        hois = np.array(self.hois, np.int64).reshape(-1, 2)
        return hois[:, 1] * len(self.verbs) + hois[:, 0]

    def unseen(self, split: str) -> tuple[int, ...]:
        """Ids of the interaction classes that a zero-shot setting leaves out of training.

        Raises:
            DataError: the classes name no such setting.
        """
        if split not in self.splits:
            named = ", ".join(sorted(self.splits)) or "none"
            if split == "uv":
                raise DataError(f"left out: {NO_UV}")
            raise DataError(f"the {self.dataset} classes have no zero-shot setting {split!r} (they have: {named})")
        return self.splits[split]


def vocabulary_of(content: Mapping[str, Any], where: str) -> Vocabulary:
    """A vocabulary from the content of a `classes.json`.

    Raises:
        DataError: a missing list, a repeated name, or an id that points outside its list; `where` names the file.
    """
    try:
        objects, verbs = tuple(content["objects"]), tuple(content["relations"] or ())
        hois = tuple((int(verb), int(label)) for verb, label in content.get("hois") or ())
        dataset = str(content["dataset"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{where}: not a list of classes ({error!r}); it needs dataset, objects, relations and hois"
        ) from None
    for name, names in (("objects", objects), ("relations", verbs)):
        repeated = {text for text in names if names.count(text) > 1}
        if repeated:
            raise DataError(f"{where}: {name} repeats {sorted(repeated)}; give each class its own name")
    for row, (verb, label) in enumerate(hois):
        if not (0 <= verb < len(verbs) and 0 <= label < len(objects)):
            raise DataError(f"{where}: hois row {row} is ({verb}, {label}), outside the lists; use 0-based indices")
    if len(set(hois)) < len(hois):
        raise DataError(f"{where}: hois repeats an interaction; list each once")
    splits = {name: tuple(map(int, ids)) for name, ids in (content.get("splits") or {}).items() if ids is not None}
    rare = tuple(map(int, content.get("rare") or ()))
    for name, ids in (("rare", rare), *splits.items()):
        if ids and not (min(ids) >= 0 and max(ids) < len(hois)):
            raise DataError(
                f"{where}: {name} names an interaction outside 0..{len(hois) - 1}; use 0-based rows of hois"
            )
    return Vocabulary(dataset, objects, verbs, hois, rare, splits, dict(content.get("groups") or {}))


def read_vocabulary(path: Path) -> Vocabulary:
    """Read a `classes.json`.

    Raises:
        InputError: no such file, or not JSON.
        DataError: see `vocabulary_of`.
    """
    try:
        content = json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give the classes.json that the raw_manifest stage wrote") from None
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); make it again") from None
    return vocabulary_of(content, str(path))
