"""Labels exported to the VG form and imported from it, with the raw datasets of a profile at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from rlip_assets.datasets.scenes import Scene, bucket_folders, read_scenes, write_scenes
from rlip_assets.datasets.sources.boxes import check_boxes
from rlip_assets.datasets.sources.roots import open_reader
from rlip_assets.labelling.exchange.vg_form import VG_FORM_START, read_file_names, read_vg_form, write_vg_form
from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.params.sources import SourcesParams
from rlip_assets.storage.errors import DataError
from rlip_assets.storage.images import check_image, image_inside
from rlip_assets.storage.outputs import output_file, output_folder
from rlip_assets.storage.quarantine import QUARANTINE_FILE, Quarantine
from rlip_assets.training.training_images import SceneFilter


def export_labels(tables: Sequence[Path], output: Path, threshold: float, root: Path) -> list[str]:
    """Write the images of some tables as one json in VG form.

    Args:
        tables: buckets, or folders of buckets.
        threshold: lowest confidence of a pseudo label.
        root: the profile's folder, whose `sources.own` tell the class ids of their datasets.

    Returns:
        Lines that say what was written.

    Raises:
        DataError: there is no image, or no relation is left of those that there were; else as `write_vg_form`.
    """
    sources = load_params(root / "params.yaml").sources
    confident, dropped = SceneFilter(threshold), Counter[str]()

    @cache
    def own_ids(dataset: str) -> dict[str, int | str] | None:
        return open_reader(sources, dataset, root).category_ids() if dataset in sources.own else None

    def scenes() -> Iterator[Scene]:
        for scene in _scenes(tables):
            kept = confident(scene)
            dropped["relations"] += len(scene.relation) - len(kept.relation)
            yield kept

    with output_file(output, "labels export", VG_FORM_START, tables) as target:
        images, relations = write_vg_form(target, scenes(), own_ids)
        if not images:
            raise DataError(f"{', '.join(map(str, tables))} hold no image, so nothing was written")
        if dropped["relations"] and not relations:
            raise DataError(
                f"none of {dropped['relations']} relations reaches the threshold {threshold:g}, so nothing was written; lower it"
            )
    return [f"wrote {images} images with {relations} relations to {output}", *_lines(dropped, "below the threshold")]


def _scenes(tables: Iterable[Path]) -> Iterator[Scene]:
    for table in tables:
        for bucket in bucket_folders(table):
            yield from read_scenes(bucket)


def import_labels(file: Path, output: Path, files: Path | None, root: Path) -> list[str]:
    """Read a json in VG form into a scene table, with `quarantine.parquet` for the rows that are left out.

    Args:
        files: table of image ids and file names, for Objects365.
        root: the profile's folder; its raw datasets say where images lie and how large they are.

    Returns:
        Lines that say what was written and what was left out.

    Raises:
        DataError: no image is left, or most boxes are lost or of another form than x y w h.
        InputError: the file is no json, or a dataset that it names has no folder.
    """
    sources = load_params(root / "params.yaml").sources
    names = read_file_names(files) if files else {}
    counts, quarantine = Counter[str](), Quarantine()

    with output_folder(output, "labels import", [file, *([files] if files else [])]) as target:
        rows = write_scenes(
            target, read_vg_form(file, RawImages(sources, root), names, sources.own, counts, quarantine)
        )
        left_out = _left_out(quarantine)
        if not rows:
            raise DataError(f"{file} gives no image, so nothing was written; {left_out or 'it lists none'}")
        check_boxes(counts["boxes"], counts, str(file))
        quarantine.write(target)
    where = [f"{left_out}; all are in {output / QUARANTINE_FILE}"] if left_out else []
    return [f"wrote {rows} images to {output}", *_lines(counts, ""), *where]


class RawImages:
    """The images of a profile's raw datasets, in every layout that their readers take."""

    def __init__(self, sources: SourcesParams, root: Path) -> None:
        self._own = sources.own
        self._reader = cache(lambda dataset: open_reader(sources, dataset, root))

    def place(self, dataset: str, split: str, file_name: str) -> str:
        """Return where an image lies: as named where it is there, else as the layout of the dataset has it."""
        reader = self._reader(dataset)
        if image_inside(reader.root, file_name).is_file() or dataset in self._own:
            return file_name
        return reader.image_path(split, file_name)

    def size(self, dataset: str, place: str) -> tuple[int, int]:
        """Return width and height of an image, which is decoded."""
        return check_image(image_inside(self._reader(dataset).root, place))


def _left_out(quarantine: Quarantine) -> str:
    """Return how many images were left out, and why the first one was."""
    if not quarantine.rows:
        return ""
    first = quarantine.rows[0]
    named = f"{first.file_name}: " if first.file_name else ""
    return f"left out {len(quarantine)} images, for example {first.image_id}: {named}{first.reason}"


def _lines(counts: Counter[str], what: str) -> list[str]:
    return [
        f"{name.replace('_', ' ')} {what}".strip() + f": {number}" for name, number in sorted(counts.items()) if number
    ]
