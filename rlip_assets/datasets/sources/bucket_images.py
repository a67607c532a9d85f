"""The images of a bucket, each exactly the file in the raw manifest.

What a stage keeps of an image from run to run is kept under the checksum of its file, so the file that is read must be the one with that
checksum: another picture of the same name and size is another image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from rlip_assets.datasets.scenes import Scene
from rlip_assets.datasets.sources.manifests import read_manifest
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.images import image_inside, open_image


@dataclass(frozen=True)
class BucketImages:
    """The images of some scenes, with the content that each must have.

    Attributes:
        root: folder that file names are relative to.
        checksums: image id -> SHA-256 of its file; None, or an image that is not there, is not checked.
    """

    root: Path
    checksums: Mapping[str, str | None]

    @classmethod
    def of(cls, manifest: Path, root: Path, scenes: Iterable[Scene], table: Path) -> BucketImages:
        """The images of `scenes`, which are from the table `table`, as a raw manifest states them.

        Raises:
            InputError: no manifest, or one that does not list an image of the table.
        """
        listed = {image.image_id: image.sha256 for image in read_manifest(manifest).images}
        ids = [scene.image_id for scene in scenes]
        for image_id in ids:
            if image_id not in listed:
                raise InputError(
                    f"{manifest} does not list image {image_id} of {table}; run the scenes stage of this bucket again"
                )
        return cls(root, {image_id: listed[image_id] for image_id in ids})

    def checksum(self, scene: Scene) -> str | None:
        """SHA-256 (hex) of a scene's file."""
        return self.checksums.get(scene.image_id)

    def open(self, scene: Scene) -> Image.Image:
        """The pixels of a scene, upright as annotated; its file is read once.

        Raises:
            BadImageError: as `open_image` and `image_inside`.
            InputError: the file is not the one of the manifest, or is gone.
        """
        return open_image(
            image_inside(self.root, scene.file_name), (scene.width, scene.height), sha256=self.checksum(scene)
        )
