"""Paths of the lineage's files below a profile's root, and keys of its partitions."""

from __future__ import annotations


def scene_folder(dataset: str) -> str:
    """Return the folder of all scene tables of a dataset."""
    return f"data/scenes/{dataset}"


def detection_folder(dataset: str) -> str:
    """Return the folder of the detected boxes of a benchmark's training images."""
    return f"data/detections/{dataset}"


def manifest_file(dataset: str, bucket: str) -> str:
    """Return the file with names and checksums of the images of a bucket."""
    return f"data/manifests/{dataset}/{bucket}.json"


def classes_file(dataset: str) -> str:
    """Return the file with the names of a dataset's object classes and relations."""
    return f"data/manifests/{dataset}/classes.json"


def facts_file(dataset: str) -> str:
    """Return the file with what the raw files say of a whole dataset besides its classes; Visual Genome alone has one."""
    return f"data/manifests/{dataset}/facts.json"


def local_roots(**roots: str) -> dict[str, str]:
    """Return the raw roots that are folders of this machine."""
    return {name: root for name, root in roots.items() if "://" not in root}


def partition_key(dataset: str, bucket: str) -> str:
    """Return the partition of a dataset and bucket: `coco`, `bucket-0` -> `coco-0`."""
    return f"{dataset}-{bucket.removeprefix('bucket-')}"


def is_folder(model: str) -> bool:
    """Return whether the name of a model is a folder's, which begins with / or with dots, and no name on a hub."""
    return model.startswith(("/", "./", "../"))
