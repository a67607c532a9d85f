"""The interface of all readers of raw datasets.

A reader streams its annotation files as `Fragment`s, small pieces that each belong to one image. Since a piece knows
its image, pieces can be spread over buckets without holding the dataset in memory; the pieces of one image then make a
`RawImage`, and that a `Scene`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rlip_assets.datasets.scenes import Scene
from rlip_assets.datasets.sources.classes import Classes
from rlip_assets.datasets.sources.dataset_facts import DatasetFacts
from rlip_assets.datasets.sources.layouts import Disk, image_file, image_places
from rlip_assets.storage.errors import InputError, RlipError

REJECTED = "rejected"
"""Kind of a piece that stands for a row without the form of its file; its content is the reason."""


class RecordError(RlipError):
    """The annotation of one image breaks the rules of its format: the image goes to quarantine with this reason."""


class NoAnnotationsError(InputError):
    """A raw dataset without any annotation file of its layout."""


class Fragment(NamedTuple):
    """One row of an annotation file, reduced to what is used.

    Attributes:
        image_id: the image that it belongs to; "" where a rejected row does not tell.
        kind: "image" for the row that declares the image, `REJECTED`, otherwise a reader's own word.
        content: JSON value.
        origin: file and row, for messages.
        split: the split whose file has the row, where each split has files and ids of its own: an id is unique within its split.
    """

    image_id: str
    kind: str
    content: Any
    origin: str
    split: str = ""


@dataclass(frozen=True)
class RawImage:
    """One image as annotated.

    Attributes:
        image_id, split: as in `Scene`.
        file_name: relative to the raw root.
        size: (width, height) as annotated, or None where the format does not tell.
        record: the annotation with the texts that its codes stand for, a JSON value: the row of the image follows from it, the class
            table and the parameters alone, so that it changes whenever any file changes what is said of the image.
        origin: file and row, for messages.
    """

    image_id: str
    split: str
    file_name: str
    size: tuple[int, int] | None
    record: Any
    origin: str


class Reader(ABC):
    """A raw dataset in one layout."""

    dataset: str
    optional_kinds: frozenset[str] = frozenset()
    """Kinds of pieces that may speak of images which the dataset does not list."""
    header: Any = None
    """Facts of the whole dataset, a JSON value: `fragments` leaves them here, and an index of records keeps them."""
    closed_vocabulary = True
    """A text outside the class table is an error."""

    @property
    def root_key(self) -> str:
        """The key of this dataset's root in params.yaml."""
        return f"sources.{self.dataset}.root"

    def __init__(self, root: Path) -> None:
        """Args: root: folder of the raw dataset.

        Raises:
            InputError: no such folder.
        """
        if not root.is_dir():
            raise InputError(f"the raw dataset {self.dataset} has no folder {root}; set {self.root_key} in params.yaml")
        self.root = root
        self.disk = Disk(root)
        self.passed_over: set[Path] = set()
        """Annotation files that are taken for absent."""

    @abstractmethod
    def official_files(self) -> dict[str, Path]:
        """Split, or what is in it -> annotation file of the official layout, whether it is there or not."""

    def optional_files(self) -> dict[str, Path]:
        """Return the annotation files that a dataset may lack, by what is missed without each."""
        return {}

    @abstractmethod
    def annotation_files(self) -> list[Path]:
        """The files that `fragments` reads; the index of records is renewed when one of them changes."""

    @abstractmethod
    def fragments(self) -> Iterator[Fragment]:
        """All pieces, in the order of the files.

        Raises:
            InputError: a file that is missing, truncated, not JSON, or of another form.
        """

    @abstractmethod
    def assemble(self, fragments: Sequence[Fragment]) -> RawImage | None:
        """The image that these pieces and the header describe, the first being its "image"; None for one that the dataset does not
        use."""

    def observe(self, raw: RawImage, tally: Counter[str]) -> None:  # noqa: B027 - most tables need no counting
        """Count whatever `classes` needs to know about the whole dataset; nothing unless a reader says so."""

    @abstractmethod
    def classes(self, tally: Counter[str]) -> Classes:
        """The dataset's class table, after every image was observed."""

    def facts(self) -> DatasetFacts | None:
        """Return what later stages need to know of the whole dataset besides its classes; None unless a reader says so."""
        return None

    def category_ids(self) -> dict[str, int | str]:
        """Class text -> its id in the annotation files, the first one where several share a text; empty where classes have no ids."""
        return {}

    @abstractmethod
    def scene(self, raw: RawImage, size: tuple[int, int], classes: Classes, counts: Counter[str]) -> Scene:
        """The row of one image, from the arguments and the parameters alone: finished rows are kept under their digest.

        Args:
            size: (width, height) of the annotation, or of the stored image where the format does not tell.
            counts: figures of the rules that changed something, by rule; added to.

        Raises:
            RecordError: an annotation that cannot be used.
        """

    def image_places(self, split: str, file_name: str) -> list[str]:
        """Return where the file that an annotation names may lie, relative to the root, the official place first."""
        return image_places(self.dataset, split, file_name)

    def image_path(self, split: str, file_name: str) -> str:
        """Return where the file that an annotation names lies, relative to the root, in any layout of the dataset."""
        return image_file(self.disk, self.image_places(split, file_name))

    def relative(self, path: Path) -> str:
        """`path` relative to the root, for messages and file names."""
        return path.relative_to(self.root).as_posix()

    def existing(self, *candidates: str) -> Path:
        """Return the first of several places of a file or folder that exists, or else the first."""
        paths = [self.root / candidate for candidate in candidates]
        return next((path for path in paths if path.exists()), paths[0])

    def is_there(self, path: Path) -> bool:
        """Return whether an annotation file exists and is not passed over."""
        return path not in self.passed_over and path.exists()

    def on_disk(self, candidates: Mapping[str, Path]) -> dict[str, Path]:
        """The splits whose annotation file exists.

        Raises:
            NoAnnotationsError: none exists.
        """
        found = {split: path for split, path in candidates.items() if self.is_there(path)}
        if not found:
            names = ", ".join(self.relative(path) for path in candidates.values())
            raise NoAnnotationsError(
                f"{self.root} holds none of {names}; point {self.root_key} at the official layout of {self.dataset}"
            )
        return found
