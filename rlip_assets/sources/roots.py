"""From the parameters to a reader: where a raw dataset lies and who reads it."""

from __future__ import annotations

from pathlib import Path

from rlip_assets.errors import ParameterError
from rlip_assets.params.sources import SourceParams, SourcesParams
from rlip_assets.sources.coco import CocoReader
from rlip_assets.sources.hico_det import HicoDetReader
from rlip_assets.sources.objects365 import Objects365Reader
from rlip_assets.sources.open_images import OpenImagesReader
from rlip_assets.sources.readers import Reader
from rlip_assets.sources.v_coco import VCocoReader
from rlip_assets.sources.visual_genome import VisualGenomeReader

_READERS: dict[str, type[Reader]] = {
    "coco": CocoReader,
    "objects365": Objects365Reader,
    "open_images": OpenImagesReader,
    "hico_det": HicoDetReader,
    "v_coco": VCocoReader,
}
DATASETS = ("visual_genome", *_READERS)


def source_params(sources: SourcesParams, dataset: str) -> SourceParams:
    """The parameters of one dataset.

    Raises:
        ParameterError: there is no such dataset.
    """
    if dataset not in DATASETS:
        raise ParameterError(f"there is no dataset {dataset!r}; choose one of {', '.join(DATASETS)}")
    params: SourceParams = getattr(sources, dataset)
    return params


def raw_root(sources: SourcesParams, dataset: str, base: Path) -> Path:
    """The local folder of a raw dataset; a relative root is relative to `base`, the profile's root.

    Raises:
        ParameterError: no such dataset, or a root in an object store, which has to be synchronised to a local folder
            first.
    """
    root = source_params(sources, dataset).root
    if "://" in root:
        raise ParameterError(f"sources.{dataset}.root is {root}; synchronise it to a local folder and name that folder")
    return base / root


def open_reader(sources: SourcesParams, dataset: str, base: Path) -> Reader:
    """The reader of a dataset.

    Raises:
        ParameterError: as `raw_root`.
        InputError: the root does not exist.
    """
    root = raw_root(sources, dataset, base)
    return VisualGenomeReader(root, sources.visual_genome) if dataset == "visual_genome" else _READERS[dataset](root)
