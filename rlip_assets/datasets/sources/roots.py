"""From the parameters to a reader: where a raw dataset lies and who reads it."""

from __future__ import annotations

from pathlib import Path

from rlip_assets.datasets.sources.coco import CocoReader
from rlip_assets.datasets.sources.coco_style import CocoStyleReader
from rlip_assets.datasets.sources.hico_det import HicoDetReader
from rlip_assets.datasets.sources.objects365 import Objects365Reader
from rlip_assets.datasets.sources.open_images import OpenImagesReader
from rlip_assets.datasets.sources.open_images_boxes import OpenImagesBoxesReader
from rlip_assets.datasets.sources.readers import Reader
from rlip_assets.datasets.sources.v_coco import VCocoReader
from rlip_assets.datasets.sources.visual_genome import VisualGenomeReader
from rlip_assets.lineage.context import StageContext, StageLog
from rlip_assets.lineage.params.placeholders import is_placeholder
from rlip_assets.lineage.params.sources import OwnSourceParams, SourceParams, SourcesParams, VisualGenomeParams
from rlip_assets.lineage.profiles import profile_option
from rlip_assets.storage.errors import InputError, ParameterError

_READERS: dict[str, type[Reader]] = {
    "coco": CocoReader,
    "objects365": Objects365Reader,
    "open_images": OpenImagesReader,
    "hico_det": HicoDetReader,
    "v_coco": VCocoReader,
}
MIRRORS = "data/raw/s3"
"""Folder of a profile below which datasets of object stores are mirrored, as BUCKET/PREFIX."""


def source_params(sources: SourcesParams, dataset: str) -> SourceParams:
    """The parameters of one dataset.

    Raises:
        ParameterError: there is no such dataset.
    """
    if dataset not in sources.names:
        raise ParameterError(f"there is no dataset {dataset!r}; choose one of {', '.join(sources.names)}")
    return sources.of(dataset)


def raw_root(sources: SourcesParams, dataset: str, base: Path) -> Path:
    """The local folder of a raw dataset; a relative root is relative to `base`, the profile's root.

    A root in an object store (s3://BUCKET/PREFIX) is read from its mirror, which `fetch_root` brings up to date.

    Raises:
        ParameterError: no such dataset, a placeholder that nobody has set, or a root of another scheme.
    """
    root = source_params(sources, dataset).root
    if is_placeholder(root):
        raise ParameterError(
            f"{sources.key(dataset)}.root is still the placeholder {root}; set it in {base / 'params.yaml'} to the folder of the dataset "
            f"(docs/raw_datasets.md: layouts), or to null to leave the dataset out, then run `rlip dvc-yaml{profile_option(base)}`"
        )
    if not is_remote(root):
        return base / root
    if not root.startswith("s3://"):
        raise ParameterError(f"{sources.key(dataset)}.root is {root}; a root is a folder or s3://BUCKET/PREFIX")
    return base / MIRRORS / root.removeprefix("s3://").strip("/")


def image_root(ctx: StageContext, dataset: str) -> Path:
    """The folder that a dataset's file names are relative to.

    Raises:
        ParameterError: as `raw_root`.
        InputError: the folder does not exist.
    """
    root = raw_root(ctx.params.sources, dataset, ctx.root)
    if not root.is_dir():
        raise InputError(
            f"{root} with the images of {dataset} does not exist; set {ctx.params.sources.key(dataset)}.root in params.yaml"
        )
    return root


def is_remote(root: str) -> bool:
    """Return True for a root outside the file system."""
    return "://" in root


def fetch_root(sources: SourcesParams, dataset: str, base: Path, log: StageLog) -> None:
    """Bring the mirror of a dataset in an object store up to date; nothing to do for a dataset in a folder.

    Raises:
        RlipError: as `raw_root` and `rlip_assets.storage.mirror.mirror`.
    """
    root = source_params(sources, dataset).root
    if not is_remote(root):
        return
    from rlip_assets.storage.mirror import mirror
    from rlip_assets.storage.object_store import ObjectStore

    report = mirror(ObjectStore.connect(), root, raw_root(sources, dataset, base), log.progress)
    log.info(
        f"{root}: {report.fetched} objects fetched ({report.bytes / 1e6:.1f} MB), {report.kept} kept, {report.removed} removed"
    )


def open_reader(sources: SourcesParams, dataset: str, base: Path) -> Reader:
    """The reader of a dataset.

    Raises:
        ParameterError: as `raw_root`.
        InputError: the root does not exist.
    """
    root = raw_root(sources, dataset, base)
    params = source_params(sources, dataset)
    if isinstance(params, OwnSourceParams):
        return _own_reader(params, dataset, root)
    if isinstance(params, VisualGenomeParams):
        return VisualGenomeReader(root, params)
    return _READERS[dataset](root)


def _own_reader(params: OwnSourceParams, dataset: str, root: Path) -> Reader:
    if params.form == "open_images_boxes":
        return OpenImagesBoxesReader(root, dataset)
    return CocoStyleReader(
        dataset, root, {name: (part.annotations, part.images) for name, part in params.splits.items()}
    )
