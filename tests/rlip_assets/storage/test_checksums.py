"""The checksum of a file is computed once, and again when the file changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlip_assets.storage import checksums
from rlip_assets.storage.checksums import Checksums
from rlip_assets.storage.errors import DataError
from rlip_assets.storage.files import sha256_file


def test_checksums_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []
    compute = sha256_file
    monkeypatch.setattr(checksums, "sha256_file", lambda path: (computed.append(path.name), compute(path))[1])
    monkeypatch.setattr(checksums, "is_settled", lambda stamp: True)
    (tmp_path / "a.jpg").write_bytes(b"one")
    for _ in range(2):
        with Checksums(tmp_path / "cache.sqlite", tmp_path) as sums:
            first = sums.of("a.jpg")
            assert sums.of("b.jpg") == (None, None)
    assert computed == ["a.jpg"]
    (tmp_path / "a.jpg").write_bytes(b"other")
    with Checksums(tmp_path / "cache.sqlite", tmp_path) as sums:
        assert sums.of("a.jpg") != first
    assert computed == ["a.jpg", "a.jpg"]


def test_a_checksum_cache_that_is_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache.sqlite").write_text("no database, but long enough to be mistaken for one by its size" * 20)
    with pytest.raises(DataError, match=r"cache\.sqlite is not a record of sums .*; delete it"):
        Checksums(tmp_path / "cache.sqlite", tmp_path)
