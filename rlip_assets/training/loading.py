"""Items of a dataset, made by worker processes or this one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset

from rlip_assets.storage.errors import RlipError


class _Told(Dataset[Any]):
    """The items of a dataset, or the failure in an item's place."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except (RlipError, OSError) as error:
            return error


def load(dataset: Dataset[Any], **settings: Any) -> Iterator[Any]:
    """Yield what a `DataLoader` of these settings yields, an item or a list of items.

    Raises:
        RlipError, OSError: as the dataset, with file and number. The loader itself would raise one that has a worker's traceback for a
            message and nothing else.
    """
    for loaded in DataLoader(_Told(dataset), **settings):
        for item in loaded if isinstance(loaded, list) else [loaded]:
            if isinstance(item, Exception):
                raise item
        yield loaded
