"""The quarantine and its limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.quarantine import Quarantine, Quarantined, read_quarantine


def test_rows_are_kept_sorted_whatever_the_order_of_work(tmp_path: Path) -> None:
    rows = [("2", "b.jpg", "the file is missing"), ("1", "a.jpg", "damaged (x)"), ("1", "a.jpg", "again")]
    for name, order in (("one", rows), ("two", rows[::-1])):
        quarantine = Quarantine()
        for row in order:
            quarantine.add(*row)
        assert len(quarantine) == 3
        quarantine.write(tmp_path / name)
    assert (tmp_path / "one/quarantine.parquet").read_bytes() == (tmp_path / "two/quarantine.parquet").read_bytes()
    assert read_quarantine(tmp_path / "one") == sorted(Quarantined(*row) for row in rows)


def test_an_empty_quarantine_is_a_table_too(tmp_path: Path) -> None:
    Quarantine().write(tmp_path)
    assert read_quarantine(tmp_path) == []
    Quarantine().check(0, 0.0, tmp_path)


def test_the_limit_is_a_fraction_and_names_the_most_frequent_reason(tmp_path: Path) -> None:
    quarantine = Quarantine()
    for number in range(3):
        quarantine.add(str(number), f"{number}.jpg", f"damaged (byte {number})")
    quarantine.add("9", "9.jpg", "the file is missing")
    quarantine.check(40, 0.1, tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(
        DataError,
        match=r"4 of 39 images are unusable, more than the allowed 10\.0%; most often \(3\): damaged, "
        r"for example 0\.jpg \(image 0\): damaged \(byte 0\); every reason is in .*quarantine\.parquet",
    ):
        quarantine.check(39, 0.1, tmp_path)
    assert read_quarantine(tmp_path) == quarantine.rows


def test_files_that_are_no_quarantine_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"quarantine\.parquet cannot be read"):
        read_quarantine(tmp_path)
    (tmp_path / "quarantine.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"quarantine\.parquet cannot be read"):
        read_quarantine(tmp_path)
