"""Bucket manifests: the versioned stand-in for the files of a raw dataset.

`bucket-K.json` lists the images of one bucket with the checksums of their file and of their annotation record, so that
a new or changed image changes the manifest of its own bucket and of no other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from rlip_assets.datasets.sources.readers import RawImage
from rlip_assets.datasets.sources.record_index import Rejected
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.files import canonical_json, digest_json, write_text

SCHEMA = {"schema": "rlip.raw_manifest", "version": 1}


@dataclass(frozen=True)
class ManifestImage:
    """One image: `bytes` and `sha256` of its file (None when it is missing), `record` the digest of its annotation."""

    image_id: str
    split: str
    file_name: str
    bytes: int | None
    sha256: str | None
    record: str


@dataclass(frozen=True)
class Manifest:
    """The images of one bucket in the order of the annotation, and the rows that cannot become an image."""

    dataset: str
    bucket: int
    buckets: int
    images: tuple[ManifestImage, ...]
    rejected: tuple[Rejected, ...]


def record_digest(raw: RawImage) -> str:
    """Digest of everything that the annotation says about an image."""
    return digest_json([raw.image_id, raw.split, raw.file_name, raw.size, raw.record])


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest as JSON with one line per image, atomically: a changed image is one changed line."""

    def lines(rows: Iterable[ManifestImage | Rejected]) -> str:
        return "[" + ",".join(f"\n  {canonical_json(asdict(row))}" for row in rows) + "]"

    head = SCHEMA | {"dataset": manifest.dataset, "bucket": manifest.bucket, "buckets": manifest.buckets}
    entries = [f'"{key}": {canonical_json(value)}' for key, value in head.items()]
    entries += [f'"images": {lines(manifest.images)}', f'"rejected": {lines(manifest.rejected)}']
    write_text(path, "{\n" + ",\n".join(entries) + "\n}\n")


def read_manifest(path: Path) -> Manifest:
    """Read a bucket manifest.

    Raises:
        InputError: missing, not JSON, or not a manifest of this version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if {key: content[key] for key in SCHEMA} != SCHEMA:
            raise InputError(
                f"{path} is not a raw manifest of version {SCHEMA['version']}; run the raw_manifest stage again"
            )
        return Manifest(
            content["dataset"],
            content["bucket"],
            content["buckets"],
            tuple(ManifestImage(**row) for row in content["images"]),
            tuple(Rejected(**row) for row in content["rejected"]),
        )
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; run the raw_manifest stage of this dataset") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a raw manifest ({error!r}); run the raw_manifest stage again") from None
