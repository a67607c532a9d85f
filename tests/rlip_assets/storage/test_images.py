"""Image files of every kind, and what is refused."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rlip_assets.storage.checksums import Checksums
from rlip_assets.storage.errors import OF_THE_MACHINE, InputError, UnavailableError, explain
from rlip_assets.storage.file_state import content_state
from rlip_assets.storage.images import FORMATS, BadImageError, check_image, image_inside, open_image, refuse_lost_folder
from tests.support.facts import PHOTOS


def gradient(width: int = 12, height: int = 8) -> Image.Image:
    rows = np.zeros((height, width, 3), np.uint8)
    rows[..., 0] = np.linspace(0, 250, width)[None]
    rows[..., 1] = np.linspace(0, 250, height)[:, None]
    return Image.fromarray(rows)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_listed_format_opens(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image.bin"
    gradient().save(path, format=kind)
    image = open_image(path)
    assert (image.mode, image.size) == ("RGB", (12, 8))
    assert check_image(path) == (12, 8)
    assert np.abs(np.asarray(image, int) - np.asarray(gradient(), int)).mean() < 25


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_a_viewer_does(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    gradient().save(path, exif=exif)
    with Image.open(path) as stored:
        expected = ImageOps.exif_transpose(stored)
        np.testing.assert_array_equal(np.asarray(open_image(path)), np.asarray(expected))
    assert check_image(path) == (12, 8)


def test_annotated_size_decides_about_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    gradient().save(path, exif=exif)
    assert open_image(path).size == (8, 12)
    assert open_image(path, size=(8, 12)).size == (8, 12)
    assert open_image(path, size=(12, 8)).size == (12, 8)
    assert open_image(path, size=(3, 3)).size == (12, 8)


def test_cmyk_and_grey_and_palette_become_rgb(tmp_path: Path) -> None:
    for mode in ("CMYK", "L", "P", "1", "YCbCr"):
        path = tmp_path / f"{mode}.{'jpg' if mode in ('CMYK', 'YCbCr') else 'png'}"
        gradient().convert(mode).save(path)
        assert open_image(path).mode == "RGB"
    red = np.asarray(open_image(tmp_path / "CMYK.jpg"), int)[..., 0]
    assert red[:, -1].mean() > red[:, 0].mean() + 150


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16)).save(path)
    assert np.asarray(open_image(path))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_transparent_pixels_lie_on_white(tmp_path: Path) -> None:
    path = tmp_path / "clear.png"
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    Image.fromarray(pixels).save(path)
    assert np.asarray(open_image(path))[0].tolist() == [[10, 20, 30], [255, 255, 255], [127, 127, 127]]


def test_the_first_frame_of_an_animation_counts(tmp_path: Path) -> None:
    path = tmp_path / "moving.gif"
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert open_image(path).getpixel((0, 0)) == (255, 0, 0)


def _png(width: int, height: int) -> bytes:
    """A PNG whose header promises width x height pixels and whose data is empty."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(20_000, 6_000), (100_000, 100_000)])
def test_decompression_bombs_are_refused_before_decoding(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(_png(*size))
    for use in (open_image, check_image):
        with pytest.raises(BadImageError, match="bomb") as caught:
            use(path)
        assert caught.value.file == path


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_truncated_files_are_refused(tmp_path: Path, kind: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(stream, kind)
    path = tmp_path / "cut.bin"
    path.write_bytes(stream.getvalue()[: len(stream.getvalue()) * 2 // 3])
    for use in (open_image, check_image):
        with pytest.raises(BadImageError, match=r"damaged|truncated|no image"):
            use(path)


def test_reasons_are_plain(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    reasons = {}
    for name in ("missing.jpg", "empty.jpg", "text.jpg", "folder.jpg", "script.eps"):
        with pytest.raises(BadImageError) as caught:
            open_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        reasons[name] = caught.value.reason
    assert reasons["missing.jpg"] == "the file is missing"
    assert reasons["empty.jpg"] == "the file is empty"
    assert reasons["text.jpg"].startswith("no image of a known format")
    assert reasons["folder.jpg"].startswith("cannot be read")
    assert reasons["script.eps"].startswith("no image of a known format")


def test_the_error_survives_a_process_boundary(tmp_path: Path) -> None:
    import pickle

    with pytest.raises(BadImageError) as caught:
        open_image(tmp_path / "missing.jpg")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.file, again.reason, str(again)) == (caught.value.file, caught.value.reason, str(caught.value))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"]))
def test_damaged_bytes_give_an_image_or_a_bad_image_error(
    data: st.DataObject, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stream = io.BytesIO()
    gradient().save(stream, kind)
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "image"
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    for use in (open_image, check_image):
        with contextlib.suppress(BadImageError):
            use(path)


def test_real_photographs() -> None:
    for path in sorted(PHOTOS.glob("*.jpg")):
        assert open_image(path).size == check_image(path)


class FailingDisk(io.RawIOBase):
    """A file whose second half cannot be read."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._content)}[whence]
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._at >= len(self._content) // 2:
            raise OSError(errno.EIO, "Input/output error")
        found = self._content[self._at : min(self._at + len(buffer), len(self._content) // 2)]
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_disk_that_fails_in_the_middle_of_an_image_is_named(
    kind: str, hidden: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a decoder tells of it in words of its own, as libtiff does."""
    path = tmp_path / "a.bin"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)).save(path, format=kind)

    def decode(*_: object, **__: object) -> None:
        raise OSError("decoder error -2 when reading image file")

    content = path.read_bytes()
    with monkeypatch.context() as broken:
        broken.setattr(Path, "open", lambda *_: io.BufferedReader(FailingDisk(content)))
        if hidden:
            broken.setattr(Image, "open", decode)
        for read in (check_image, open_image):
            with pytest.raises(OSError, match="Input/output error") as caught:
                read(path)
            assert str(explain(caught.value)).startswith(
                f"{path}: Input/output error; check the disk; if this file alone"
            )
    monkeypatch.setattr(Image, "open", decode)
    with pytest.raises(BadImageError, match="decoder error -2"):  # all of the file can be read
        open_image(path)


@pytest.mark.parametrize("number", sorted({errno.EIO, errno.ESTALE, errno.ECONNRESET, *OF_THE_MACHINE}))
def test_no_image_is_blamed_for_a_failure_of_the_machine(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files or a mount that went away: the image would stay in quarantine when all is well again."""
    gradient().save(tmp_path / "a.png")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, "of the machine")

    with monkeypatch.context() as broken:
        broken.setattr(Image, "open", fail)
        for read in (check_image, open_image):
            with pytest.raises(OSError, match="of the machine") as caught:
                read(tmp_path / "a.png")
            assert explain(caught.value)  # with a remedy
    with monkeypatch.context() as broken, Checksums(tmp_path / "sums.sqlite", tmp_path) as sums:
        broken.setattr("rlip_assets.storage.checksums.sha256_file", fail)
        with pytest.raises(OSError, match="of the machine"):
            sums.of("a.png")
    with monkeypatch.context() as broken:
        broken.setattr(Path, "lstat", fail)
        with pytest.raises(OSError, match="of the machine"):
            image_inside(tmp_path, "a.png")
    with monkeypatch.context() as broken:
        broken.setattr(Path, "stat", fail)
        with pytest.raises(OSError, match="of the machine"):
            content_state(tmp_path / "a.png")
    assert check_image(image_inside(tmp_path, "a.png")) == (12, 8)


def test_an_image_of_a_manifest_that_is_gone_is_no_bad_image(tmp_path: Path) -> None:
    """Its absence would be kept as the result for its checksum, and found again when the image is back."""
    path = tmp_path / "a.png"
    gradient().save(path)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    assert open_image(path, sha256=checksum).size == (12, 8)
    path.unlink()
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"a\.png cannot be read, though its manifest lists it; restore it"
        ) as caught:
            open_image(path, sha256=checksum)
        assert not isinstance(caught.value, BadImageError)
        path.mkdir(exist_ok=True)


@pytest.mark.parametrize(
    ("made", "lost"),
    [
        ("a/b/other.jpg", None),
        ("a/c/other.jpg", None),  # the folder b was removed beside another
        ("a/b/", "a/b"),
        ("a/", "a"),
        ("", ""),
    ],
)
def test_an_empty_folder_is_a_lost_mount_and_a_removed_one_is_not(tmp_path: Path, made: str, lost: str | None) -> None:
    path = tmp_path / "root" / made
    (path.parent if path.suffix else path).mkdir(parents=True)
    if path.suffix:
        path.touch()
    image = tmp_path / "root/a/b/0.jpg"
    if lost is None:
        refuse_lost_folder(image, "a/b/0.jpg")
    else:
        with pytest.raises(UnavailableError, match=f"^{(tmp_path / 'root' / lost)} is missing or empty"):
            refuse_lost_folder(image, "a/b/0.jpg")


def test_a_root_that_is_gone_or_a_link_to_nothing_is_a_lost_mount(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=f"^{tmp_path / 'root'} is missing or empty"):
        refuse_lost_folder(tmp_path / "root/a/0.jpg", "a/0.jpg")
    (tmp_path / "root").symlink_to(tmp_path / "mount")
    with pytest.raises(UnavailableError, match=f"^{tmp_path / 'root'} is missing or empty"):
        refuse_lost_folder(tmp_path / "root/a/0.jpg", "a/0.jpg")
