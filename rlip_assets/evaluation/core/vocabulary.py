"""The classes of a benchmark, as its `classes.json` names them; the evaluators fix no number of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from rlip_assets.datasets.sources.classes import Classes, zero_shot_splits
from rlip_assets.evaluation.formats.json_values import read_text
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

    def unseen(self, split: str | Sequence[Sequence[str]]) -> tuple[int, ...]:
        """Ids of the interaction classes that a zero-shot setting leaves out of training: by its name, or listed as (verb, object) names.

        Raises:
            DataError: the classes name no such setting or interaction.
        """
        if not isinstance(split, str):
            names = {(self.verbs[verb], self.objects[label]): number for number, (verb, label) in enumerate(self.hois)}
            listed = [(verb, thing) for verb, thing in split]  # those of a checkpoint are lists
            if unknown := [name for name in listed if name not in names]:
                raise DataError(
                    f"the {self.dataset} classes have no interaction {unknown[0]}; correct the recipe's unseen"
                )
            return tuple(names[name] for name in listed)
        if split not in self.splits:
            named = ", ".join(sorted(self.splits)) or "none"
            raise DataError(f"the {self.dataset} classes have no zero-shot setting {split!r} (they have: {named})")
        return self.splits[split]


def vocabulary_of_classes(content: Mapping[str, Any] | str, where: str) -> Vocabulary:
    """Return a vocabulary from the content of a `classes.json`, as an object or as its JSON.

    Raises:
        DataError: a missing list, a value of another kind, a repeated name or interaction, or an id that points outside its list; `where`
            names the file.
    """
    try:
        classes = (
            Classes.model_validate_json(content, strict=True)
            if isinstance(content, str)
            else Classes.model_validate(content)
        )
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the table"
        raise DataError(f"{where}: {key}: {first['msg']}; correct the class table") from None
    hois = tuple(classes.hois or ())
    if len(set(hois)) < len(hois):
        raise DataError(f"{where}: hois repeats an interaction; list each once")
    splits = {name: tuple(ids) for name, ids in zero_shot_splits(classes).items()}
    return Vocabulary(
        classes.dataset,
        tuple(classes.objects),
        tuple(classes.relations or ()),
        hois,
        tuple(classes.rare),
        splits,
        dict(classes.groups),
    )


def read_vocabulary(path: Path) -> Vocabulary:
    """Read a `classes.json`.

    Raises:
        InputError: no such file, or not JSON.
        DataError: see `vocabulary_of_classes`.
    """
    content = read_text(path, "name the classes.json that the raw_manifest stage wrote (--classes)")
    try:
        json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); make it again") from None
    return vocabulary_of_classes(content, str(path))
