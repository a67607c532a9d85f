"""Files of a checkpoint folder: written whole or not at all, and read as if they came from a stranger."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rlip_model.errors import CheckpointError
from rlip_model.permissions import apply_umask

WEIGHTS, CONFIG, METADATA = "model.safetensors", "config.json", "metadata.json"
MEMBERS = (WEIGHTS, CONFIG, METADATA, "tokenizer.json", "tokenizer_config.json", "label_tokenizer.json", "README.md")
CONTENT = "content"
"""Key of the weight file's header that holds the digest of its tensors; files from elsewhere have none."""
JSON_LIMIT = 16 << 20
"""Bytes of a JSON file: label lists of large datasets take less than one megabyte."""
AGAIN = "fetch or make the checkpoint again"
CACHED = re.compile(r"/([0-9a-f]{2}/[0-9a-f]{30}|blobs/[0-9a-f]{40,64})$")
"""Files of the caches that folders are linked to: DVC's and Hugging Face's, which name a file by its digest."""


def member(folder: Path, name: str) -> Path:
    """Return the path of a file of a folder.

    Raises:
        CheckpointError: missing, no regular file, or a link out of the folder to anything but DVC's or Hugging Face's cache.
    """
    file = folder / name
    try:
        target = file.resolve(strict=True)
        inside = target.is_relative_to(folder.resolve()) or CACHED.search(target.as_posix())
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing: the model folder is incomplete; {AGAIN}") from None
    except (NotADirectoryError, RuntimeError):  # the second before Python 3.13: a link that leads to itself
        raise CheckpointError(f"{file} is no file: give a model folder") from None
    if not target.is_file():
        raise CheckpointError(f"{file} is no regular file; {AGAIN}")
    if not inside:
        raise CheckpointError(f"{file} is a link out of its folder: replace it by the file itself")
    return file


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object. Raises CheckpointError for anything else, and beyond `JSON_LIMIT` bytes."""
    with naming(file):
        if file.stat().st_size > JSON_LIMIT:
            raise ValueError(f"more than {JSON_LIMIT >> 20} MB")
        values = json.loads(file.read_text("utf-8"))
        if not isinstance(values, dict):
            raise ValueError("no JSON object")
    return values


def write_json(file: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object with sorted keys."""
    file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes in the header of a weight file; no tensor is read. Raises CheckpointError when it is damaged."""
    with _opened(file) as content:
        return {name: tuple(content.get_slice(name).get_shape()) for name in content.keys()}  # noqa: SIM118


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read a weight file.

    Raises:
        CheckpointError: damaged, its tensors are not those that were written, or one of them is unusable.
    """
    with _opened(file) as content:
        written = (content.metadata() or {}).get(CONTENT)
        tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    if written and written != content_digest(tensors):
        raise CheckpointError(f"{file} is damaged (its tensors are not those that were written): {AGAIN}")
    refuse_unusable(file, tensors)
    return tensors


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    with naming(file), safe_open(str(file), framework="pt") as content:
        yield content


@contextmanager
def naming(file: Path | str) -> Iterator[None]:
    """Turn whatever a library raises over a file, panics of Rust code included, into a CheckpointError that names it."""
    try:
        yield
    except (CheckpointError, OSError, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise CheckpointError(f"{file} is damaged ({first_line(error)}): {AGAIN}") from None


def refuse_unusable(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError, with the tensor's name, where a weight is NaN, infinite or complex."""
    for name, value in tensors.items():
        real = value if value.is_complex() or value.itemsize > 1 else value.float()  # float8 has no test for NaN
        if value.is_complex() or not bool(torch.isfinite(real).all()):
            raise CheckpointError(f"{file}: {name} holds NaN, infinity or complex numbers: take other weights")


def save_weights(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors with their digest in the header.

    Raises:
        OSError: the disk is full or broken.
    """
    # A copy each where memory is shared, which the format does not know.
    own = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    places = [value.untyped_storage().data_ptr() for value in own.values()]
    if len(set(places)) < len(places):
        own = {name: value.clone() for name, value in own.items()}
    try:
        save_file(own, str(file), metadata={CONTENT: content_digest(own)})
        apply_umask(file)
    except SafetensorError as error:  # the writer's word for a full disk
        code = errno.ENOSPC if f"code: {errno.ENOSPC}," in str(error) else errno.EIO
        raise OSError(code, f"cannot be written ({error})", str(file)) from None


def content_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return SHA-256 (hex) over names and bytes of tensors on the CPU, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary sibling to fill, synced to disk and renamed to `folder` at the end; removed on an error.

    Raises:
        CheckpointError: `folder` is a link or a file, or holds files but no weights, so that it is no checkpoint to replace.
    """
    foreign = folder.is_dir() and any(folder.iterdir()) and not (folder / WEIGHTS).exists()
    if foreign or folder.is_symlink() or folder.exists() > folder.is_dir():
        raise CheckpointError(f"{folder} exists and is no checkpoint, so it is not replaced: name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield temporary
        for file in [*temporary.iterdir(), temporary]:
            apply_umask(file)
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        aside = temporary.with_name(f"{temporary.name}.old")
        if folder.exists():
            folder.rename(aside)
        temporary.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its type."""
    return (str(error).splitlines() or [type(error).__name__])[0]
