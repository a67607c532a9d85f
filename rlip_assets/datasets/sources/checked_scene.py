"""The row of one image of a raw dataset, after its file was decoded and its size and names were checked."""

from __future__ import annotations

from collections import Counter

from rlip_assets.datasets.scenes import Scene
from rlip_assets.datasets.sources.classes import Classes
from rlip_assets.datasets.sources.readers import RawImage, Reader, RecordError
from rlip_assets.datasets.sources.rows import shown
from rlip_assets.storage.images import BadImageError, check_image, image_inside, upright_size


def checked_scene(reader: Reader, raw: RawImage, classes: Classes, rules: Counter[str]) -> Scene:
    """Return the row of one image.

    Args:
        rules: figures of the rules that changed something, by rule; added to.

    Raises:
        BadImageError: the file is missing, damaged or of another size than annotated.
        RecordError: an annotation that cannot be used, or a name outside the class table.
    """
    try:
        path = image_inside(reader.root, raw.file_name)
    except BadImageError as error:
        raise RecordError(f"{error.reason} ({shown(raw.file_name)})") from None
    stored = check_image(path)
    size = raw.size or stored
    if size != stored and size != upright_size(path):
        reason = f"the file has {stored[0]} x {stored[1]} pixels (annotated: {size[0]} x {size[1]})"
        raise BadImageError(path, reason)
    return named_scene(reader, raw, size, classes, rules)


def named_scene(reader: Reader, raw: RawImage, size: tuple[int, int], classes: Classes, rules: Counter[str]) -> Scene:
    """Return the row of an image of `size` (width, height), whose names are in the class table.

    Raises:
        RecordError: as `checked_scene`.
    """
    scene = reader.scene(raw, size, classes, rules)
    if reader.closed_vocabulary:
        unknown = set(scene.labels) - set(classes.objects)
        if classes.relations is not None:
            unknown |= set(scene.relation) - set(classes.relations)
        if unknown:
            raise RecordError(f"{min(unknown)!r} is not in the class table")
    return scene
