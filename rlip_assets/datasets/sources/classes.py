"""Class tables: the texts, interactions and splits of a dataset, as `classes.json` keeps them beside the manifests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from rlip_assets.storage.errors import DataError, InputError, ParameterError

if TYPE_CHECKING:
    from rlip_model.config import LabelTexts

TABLES = Path(__file__).resolve().parent / "class_tables"
RARE_BELOW = 10
"""An interaction with fewer training instances is rare (HICO-DET)."""


class Classes(BaseModel):
    """The vocabulary of a dataset. Texts are what the text encoder reads; indices are 0-based positions.

    Attributes:
        dataset: id of the dataset.
        objects: object texts, in evaluation order; empty for an open vocabulary (Visual Genome).
        relations: relation texts in evaluation order; None where the dataset has no closed set of them.
        hois: (relation index, object index) of each interaction class; None outside HICO-DET.
        rare: indices in `hois` with fewer than `RARE_BELOW` training instances.
        splits: name of a zero-shot split ("uc_rf", "uc_nf", "uo") to the indices in `hois` that it holds out; see `zero_shot_splits`.
        groups: further named groupings that reports use, such as the official action names of V-COCO.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    objects: list[str]
    relations: list[str] | None = None
    hois: list[tuple[int, int]] | None = None
    rare: list[int] = []
    splits: dict[str, list[int]] = {}
    groups: dict[str, Any] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Classes:
        for kind, texts in (("objects", self.objects), ("relations", self.relations or [])):
            if len(set(texts)) != len(texts):
                double = next(text for text in texts if texts.count(text) > 1)
                raise ValueError(f"{kind} lists {double!r} twice")
        for number, (relation, entity) in enumerate(self.hois or []):
            if not (0 <= relation < len(self.relations or []) and 0 <= entity < len(self.objects)):
                raise ValueError(f"hois[{number}] = {[relation, entity]} points outside relations or objects")
        for name, held_out in {"rare": self.rare, **self.splits}.items():
            if any(not 0 <= hoi < len(self.hois or []) for hoi in held_out):
                raise ValueError(f"{name} points outside hois")
        return self


def read_classes(path: Path) -> Classes:
    """Read a `classes.json`.

    Raises:
        InputError: missing or not JSON.
        DataError: JSON, but not a class table.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; run the raw_manifest stage of this dataset") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}); run the raw_manifest stage of this dataset again") from None
    try:
        return Classes.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the table"
        raise DataError(f"{path}: {key}: {first['msg']}; correct the class table") from None


@cache
def official_table(name: str) -> dict[str, Any]:
    """A shipped table of official ids and names: "coco", "objects365", "hico_det", "v_coco" or "open_images"."""
    content: dict[str, Any] = json.loads((TABLES / f"{name}.json").read_text(encoding="utf-8"))
    return content


@cache
def coco_names() -> Mapping[int, str]:
    """COCO category id (1..90) to name."""
    return {row["id"]: row["name"] for row in official_table("coco")["objects"]}


@cache
def hico_verbs() -> Mapping[int, str]:
    """HICO-DET verb id (1..117) to text."""
    return {row["id"]: row["text"] for row in official_table("hico_det")["verbs"]}


def hico_classes() -> Classes:
    """The whole HICO-DET vocabulary: 80 objects in the order of their COCO ids, 117 verbs, 600 interactions."""
    table = official_table("hico_det")
    objects, verbs = list(coco_names().values()), [row["name"] for row in table["verbs"]]
    return Classes(
        dataset="hico_det",
        objects=objects,
        relations=[row["text"] for row in table["verbs"]],
        hois=[(verbs.index(row["verb"]), objects.index(row["object"])) for row in table["hois"]],
        rare=table["rare"],
        splits=table["splits"],
    )


def zero_shot_splits(classes: Classes) -> dict[str, list[int]]:
    """Return the zero-shot splits of a dataset as indices in its `hois`: its own, and the published ones that it lacks where it is HICO-DET
    with the 600 published interactions, in whatever order."""
    names = interaction_names(classes)
    official = hico_classes()
    published = interaction_names(official)
    if classes.dataset != official.dataset or set(names) != set(published):
        return classes.splits
    index = {name: number for number, name in enumerate(names)}
    every = official.splits | official_table("hico_det")["further_splits"]
    return {name: [index[published[hoi]] for hoi in unseen] for name, unseen in every.items()} | classes.splits


def interaction_names(classes: Classes) -> list[tuple[str, str]]:
    """Return the (relation, object) texts of the interaction classes."""
    relations = classes.relations or []
    return [(relations[relation], classes.objects[entity]) for relation, entity in classes.hois or []]


def v_coco_classes() -> Classes:
    """The V-COCO vocabulary: 80 objects in the order of their COCO ids, 29 actions by role."""
    verbs = official_table("v_coco")["verbs"]
    return Classes(
        dataset="v_coco",
        objects=list(coco_names().values()),
        relations=[row["text"] for row in verbs],
        groups={"actions": [row["name"] for row in verbs]},
    )


def open_images_text(name: str) -> str:
    """An official name as the network reads it: "Coffee cup" -> "coffee cup", "inside_of" -> "inside of"."""
    return name.lower().replace("_", " ").strip()


@cache
def _published_names() -> dict[str, Mapping[str, str]]:
    """Kind of class -> text of an Open Images class as tables have it -> its published name. "drink" is one of either kind."""
    table = official_table("open_images")
    return {kind: {open_images_text(name): name for name in table[kind]} for kind in ("objects", "relations")}


def learnt_texts(kind: Literal["objects", "relations"], texts: Iterable[str], form: LabelTexts) -> list[str]:
    """Return texts as a network reads that learnt label texts in this form: "sea turtle" -> "Sea turtle" where it is "published"."""
    names = _published_names()[kind] if form == "published" else {}
    return [names.get(text, text) for text in texts]


def open_images_classes() -> Classes:
    """Open Images v6: its 601 boxable classes and 30 predicates. A benchmark's own table names the classes that it uses."""
    objects, relations = (map(open_images_text, official_table("open_images")[key]) for key in ("objects", "relations"))
    return Classes(dataset="open_images", objects=list(objects), relations=list(relations))


PRESETS = {"hico_det": hico_classes, "v_coco": v_coco_classes, "open_images": open_images_classes}


def preset_classes(name: str) -> Classes:
    """The whole vocabulary of a benchmark, for photos.

    Raises:
        ParameterError: there is no such preset.
    """
    if name not in PRESETS:
        raise ParameterError(f"There is no vocabulary {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()


PUBLISHED_NAMES = {
    "vg": ("visual_genome",),
    "vg_hico": ("visual_genome", "hico_det"),
    "vg_coco2017": ("visual_genome", "coco"),
    "vg_coco2017_hico": ("visual_genome", "coco", "hico_det"),
    "vg_coco2017_o365": ("visual_genome", "coco", "objects365"),
    "vg_coco2017_o365_hico": ("visual_genome", "coco", "objects365", "hico_det"),
    "hico": ("hico_det",),
    "vcoco": ("v_coco",),
    "oi_sgg": ("open_images",),
}
"""Datasets of a training by its name on the published command lines (`--dataset_file`)."""


def benchmark_of(trained_on: str) -> str | None:
    """The preset whose closed lists a network was fine-tuned on, from a checkpoint's `trained_on`; None where it is no benchmark alone."""
    names = PUBLISHED_NAMES.get(trained_on, (trained_on,))
    return names[0] if len(names) == 1 and names[0] in PRESETS else None


def trained_datasets(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the datasets of a checkpoint's last training from its metadata; empty where they do not tell."""
    recipe = metadata.get("recipe")
    if isinstance(recipe, Mapping) and isinstance(recipe.get("sources"), Mapping):
        return tuple(recipe["sources"])
    return PUBLISHED_NAMES.get(str(metadata.get("trained_on", "")), ())


def own_classes(root: Path, dataset: str) -> Classes | None:
    """The table that a raw dataset brings itself as `classes.json` in its root: its vocabulary, splits and groups win.

    Raises:
        DataError: it is not a class table, or that of another dataset.
    """
    path = root / "classes.json"
    if not path.is_file():
        return None
    classes = read_classes(path)
    if classes.dataset != dataset:
        raise DataError(f"{path} is the class table of {classes.dataset}, not of {dataset}; correct its 'dataset'")
    return classes
