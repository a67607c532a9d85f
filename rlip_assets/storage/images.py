"""Image files as the program sees them: upright 8-bit RGB, or an error that names the file."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from rlip_assets.storage.errors import OF_THE_MACHINE, InputError, UnavailableError
from rlip_assets.storage.files import atomic_file

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""Formats that are decoded (multi-picture JPEG comes with JPEG); formats that start an interpreter (EPS) or read other files are not."""

MAX_PIXELS = 100_000_000
"""More pixels than this are taken for a decompression bomb (300 MB as RGB)."""

_CACHED = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")
"""A file of a DVC cache: DVC links to it where the micro world's images are outputs."""
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)


class BadImageError(InputError):
    """An image file that cannot be used; `file` says which, `reason` why."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file}: {reason}; replace the file or leave the image out")
        self.file = file
        self.reason = reason

    def __reduce__(self) -> tuple[type[BadImageError], tuple[Path, str]]:
        return type(self), (self.file, self.reason)


@contextmanager
def _opened(
    path: Path, max_pixels: int, sha256: str | None = None, content: bytes | None = None
) -> Iterator[Image.Image]:
    """The image with its header read; every way in which decoding fails becomes a `BadImageError`.

    Pillow gets no path: it would map pictures without compression into memory, and a disk that fails under a map ends the process.
    """
    checked = content
    try:
        # Opening a pipe would wait for ever.
        if content is None and sha256 is None and path.exists() and not path.is_file():
            raise BadImageError(path, "cannot be read (no regular file)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checked = content if sha256 is None else _content(path, sha256)
            stream = path.open("rb") if checked is None else BytesIO(checked)
            with stream, Image.open(stream, formats=FORMATS) as image:
                if image.width * image.height > max_pixels:
                    raise BadImageError(
                        path,
                        f"{image.width} x {image.height} pixels are more than {max_pixels} (a decompression bomb?)",
                    )
                yield image
    except InputError:
        raise
    except FileNotFoundError:
        raise BadImageError(path, "the file is missing") from None
    except Image.DecompressionBombError as error:
        raise BadImageError(path, f"decompression bomb: {error}") from None
    except UnidentifiedImageError:
        empty = not content if content is not None else path.stat().st_size == 0
        raise BadImageError(
            path, "the file is empty" if empty else f"no image of a known format ({', '.join(FORMATS)})"
        ) from None
    except Exception as error:  # on hostile bytes the decoders raise whatever they trip over (struct, zlib, index)
        if failure := _machine_failure(error, path if checked is None else None):
            raise failure from None
        raise BadImageError(path, _reason(error)) from None


def _reason(error: Exception) -> str:
    if not isinstance(error, OSError):
        return f"damaged ({type(error).__name__}: {error})"
    return f"cannot be read ({error.strerror})" if error.errno else f"damaged or truncated ({error})"


def _machine_failure(error: Exception, path: Path | None) -> OSError | None:
    """Return the failure of the machine behind a failure to decode the file at `path` (None: bytes in memory); None where the image is bad.

    Some decoders hide a failure to read in an error of their own, so the file is read once more.
    """
    if path and not (isinstance(error, OSError) and error.errno):
        try:
            with path.open("rb") as stream:
                while stream.read(1 << 20):
                    pass
        except OSError as found:
            error = found
    if not isinstance(error, OSError) or error.errno not in OF_THE_MACHINE:
        return None
    error.filename = error.filename or (path and str(path))
    return error


def _content(path: Path, sha256: str) -> bytes:
    """Return the bytes of a file, which must have this checksum: a file that is not there is as wrong as another one, for a work result
    that lacks its image would be kept under the checksum of the image."""
    try:
        content = path.read_bytes() if path.is_file() else None  # opening a pipe would wait for ever
    except OSError as error:
        if error.errno in OF_THE_MACHINE:
            raise
        content = None
    if content is None:
        raise InputError(
            f"{path} cannot be read, though its manifest lists it; restore it or run the raw_manifest stage again"
        )
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{path} changed since its manifest was made; run the raw_manifest stage again")
    return content


def image_inside(root: Path, name: str) -> Path:
    """Return the path of the image that an annotation file names, relative to `root`.

    Raises:
        BadImageError: the name is no relative path, has a part that no file system takes, or leads out of `root`, by a link too, unless
            that is a link to a DVC cache.
    """
    place = PurePosixPath(name)
    path = root / place
    if place.is_absolute() or ".." in place.parts or "\0" in name or not place.parts:
        raise BadImageError(path, "the name is no path below the root of its dataset")
    try:
        path.lstat()
        real = path.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        return path
    except (OSError, RuntimeError, UnicodeError) as error:  # a name too long, links in a circle
        if getattr(error, "errno", None) in OF_THE_MACHINE:
            raise
        raise BadImageError(path, f"the name is no path ({getattr(error, 'strerror', error)})") from None
    if not real.is_relative_to(root.resolve()) and not _CACHED.search(real.as_posix()):
        raise BadImageError(path, "the name leads out of the root of its dataset")
    return path


def refuse_lost_folder(image: Path, name: str) -> None:
    """Refuse to go on without an image that was read before, where a mount that went away is the likely reason.

    The lowest folder on its way from the root of its dataset that is still there is then empty, or a link to nothing, or there is none. A
    folder that is missing beside others was removed on purpose.

    Args:
        name: the image's name relative to the root of its dataset.

    Raises:
        UnavailableError: names the folder.
    """
    folders = list(image.parents)[: len(PurePosixPath(name).parts)]
    lowest = next((folder for folder in folders if os.path.lexists(folder)), folders[-1])
    with suppress(PermissionError):
        if not (lowest.is_dir() and _has_entry(lowest)):
            raise UnavailableError(
                f"{lowest} is missing or empty, though its images were there; mount or restore it, or run the raw_manifest stage again "
                "to go on without them"
            )


def _has_entry(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is not None


def check_image(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Decode all of an image without keeping it and return its stored (width, height), orientation not applied.

    JPEG is decoded at an eighth of its size: all its data is still read, at a fraction of the time.

    Raises:
        BadImageError: missing, empty, truncated, damaged, of no known format or larger than `max_pixels`.
        OSError: one of `OF_THE_MACHINE`, which no file is blamed for.
    """
    with _opened(path, max_pixels) as image:
        size = image.size
        image.draft("RGB", (max(1, size[0] // 8), max(1, size[1] // 8)))
        image.load()
    return size


def upright_size(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return the (width, height) of an image as a viewer shows it, its EXIF orientation applied; its header alone is read.

    Raises:
        BadImageError: as `check_image`.
    """
    with _opened(path, max_pixels) as image:
        return _upright_size(image)


def open_image(
    path: Path,
    size: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
    sha256: str | None = None,
    content: bytes | None = None,
) -> Image.Image:
    """Decode an image file to 8-bit RGB.

    CMYK is converted, 16-bit grey is scaled to 8 bits, transparent pixels are laid over white, of an animation the
    first frame counts.

    Args:
        size: (width, height) that the annotations of the image refer to. Many datasets were annotated on the pixels as
            stored, so the EXIF orientation is applied only if it leads to this size; None applies it always, as a
            viewer does.
        max_pixels: larger images are refused.
        sha256: checksum (hex) that the file must have; None asks for none.
        content: the bytes of the image; `path` is then only its name in errors.

    Raises:
        BadImageError: as `check_image`.
        InputError: the file has another checksum, or is missing where one is asked for.
    """
    with _opened(path, max_pixels, sha256, content) as image:
        turn = _turn(image, size)
        image.load()
        pixels = _to_rgb(image)
    return pixels if turn is None else pixels.transpose(turn)


def _turn(image: Image.Image, size: tuple[int, int] | None) -> Image.Transpose | None:
    """Return the transposition that brings a stored image upright, None where its annotations refer to the pixels as stored."""
    if size is not None and (size == image.size or size != _upright_size(image)):
        return None
    return _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))


def _upright_size(image: Image.Image) -> tuple[int, int]:
    sideways = image.getexif().get(_ORIENTATION_TAG, 1) in _SIDEWAYS
    return (image.height, image.width) if sideways else image.size


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of a loaded image, without metadata."""
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image, dtype=np.float64) * (255 / 65535) + 0.5, 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode == "F":
        return Image.fromarray(np.clip(np.nan_to_num(np.asarray(image)) + 0.5, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        flat = Image.new("RGB", image.size, (255, 255, 255))
        flat.paste(layer, mask=layer.getchannel("A"))
        return flat
    converted = image.convert("RGB") if image.mode != "RGB" else image.copy()
    converted.info.clear()
    return converted


def save_picture(path: Path, picture: Image.Image, software: str = "") -> None:
    """Write a drawn picture as PNG, atomically; the same picture gives the same bytes.

    Args:
        software: the command that drew it, for the text chunk "Software".
    """
    text = PngInfo()
    if software:
        text.add_text("Software", software)
    with atomic_file(path) as temporary:
        picture.save(temporary, format="png", pnginfo=text)
