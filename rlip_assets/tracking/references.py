"""References to files that DVC keeps: the tracking store names them by path and hash instead of keeping copies.

A registered model is such a reference. Its files are found in the tree while they are the ones that were registered, else in DVC's cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rlip_assets.dvc.cache import objects_folder
from rlip_assets.lineage.profiles import DEFAULT_PROFILE, PROJECT_ROOT
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.files import read_object

REFERENCE = "reference.json"
"""The file of a registered model that says where its checkpoint is."""

TAGGER = "r_tagger"
"""The item that trains the R-Tagger, whose model takes boxes too."""


def model_name(profile: str, stage: str | None, partition: str | None) -> str:
    """Return the name under which an item's model is registered: PROFILE-STAGE-PARTITION, such as `micro-finetune-hico_full`."""
    return "-".join(filter(None, (profile, stage, partition)))


def describe_files(path: Path, name: Path) -> dict[str, dict[str, Any]]:
    """Return size and MD5, DVC's hash, of a file or of each file in a folder, by the path that it will have below `name`."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {
        (name / file.relative_to(path)).as_posix(): {"bytes": file.stat().st_size, "md5": _md5(file)}
        for file in files
        if file.is_file()
    }


def link_copies(folder: Path, root: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Replace files below `folder` that are copies of outputs by hard links to these, where the file system has such.

    Args:
        files: what `describe_files` says of the outputs, whose paths are relative to `root`.
    """
    outputs = {content["md5"]: root / name for name, content in files.items()}
    for file in sorted(folder.rglob("*")):
        output = outputs.get(_md5(file)) if file.is_file() else None
        if output is None or not output.is_file() or output.samefile(file) or _md5(output) != _md5(file):
            continue
        link = file.with_name(f".{file.name}.link")
        with suppress(OSError):
            os.link(output, link)
            os.replace(link, file)


@contextmanager
def referred_folder(reference: Path) -> Iterator[Path]:
    """Yield a folder with the files that a reference names.

    Raises:
        InputError: one of them is neither in the tree nor in DVC's cache.
    """
    content = read_object(reference, "register the model again by running its stage")
    files: Mapping[str, str] = content["files"]
    roots = _roots(content["root"], content["profile"])
    for root in roots:
        folder = root / content["folder"]
        if all((folder / name).is_file() and _md5(folder / name) == md5 for name, md5 in files.items()):
            yield folder
            return
    with TemporaryDirectory() as temporary:
        for name, md5 in files.items():
            places = [place for root in roots for place in (root / content["folder"] / name, _object(root, md5))]
            found = next((place for place in places if place.is_file() and _md5(place) == md5), None)
            if found is None:
                raise InputError(
                    f"{content['folder']}/{name} of the registered model (MD5 {md5}) is neither in {roots[0]} nor in its DVC cache; "
                    f"bring it back there with `dvc pull`, or with `git checkout` of the commit that its run names and `dvc checkout`"
                )
            shutil.copyfile(found, Path(temporary) / name)
        yield Path(temporary)


def _roots(recorded: str, profile: str) -> list[Path]:
    """Return the profile's roots that may hold the files: where it was, and in the project that is installed now."""
    here = PROJECT_ROOT if profile == DEFAULT_PROFILE else PROJECT_ROOT / "profiles" / profile
    places = [place for place in dict.fromkeys((Path(recorded), here)) if place.is_dir()]
    return places or [here]


def _object(root: Path, md5: str) -> Path:
    return objects_folder(root) / md5[:2] / md5[2:]


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()
