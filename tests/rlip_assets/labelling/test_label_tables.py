"""The tables between images and labels: equal after reading, refused by name when they are something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlip_assets.labelling.label_tables import CandidateRow, CaptionRow, TripletRow, read_rows, write_rows
from rlip_assets.storage.errors import InputError

ROWS: dict[type, list[Any]] = {
    CaptionRow: [CaptionRow("1", ["a man", "a man", "ein Bär"]), CaptionRow("2", [])],
    TripletRow: [TripletRow("1", ["man"], ["ride"], ["riding"], ["horse"], [2])],
    CandidateRow: [CandidateRow("1", "hash", [0], [1], ["ride"], ["riding"], [2])],
}


@pytest.mark.parametrize("kind", ROWS)
def test_tables_read_back_and_other_versions_are_refused(kind: Any, tmp_path: Path) -> None:
    part = tmp_path / "part-00000.parquet"
    write_rows(part, kind, ROWS[kind])
    assert list(read_rows(tmp_path, kind)) == ROWS[kind]
    table = pq.read_table(part)
    for change, message in (
        ({"version": "0"}, rf"has schema '{kind.SCHEMA}' version 0, this program reads .* version 1; run the stage"),
        ({"schema": "other"}, "has schema 'other' version 1"),
    ):
        metadata = {**{key.decode(): value.decode() for key, value in table.schema.metadata.items()}, **change}
        pq.write_table(table.replace_schema_metadata(metadata), part)
        with pytest.raises(InputError, match=message):
            list(read_rows(tmp_path, kind))


def test_captions_that_are_not_utf8_name_file_and_row(tmp_path: Path) -> None:
    part = tmp_path / "part-00000.parquet"
    write_rows(part, CaptionRow, ROWS[CaptionRow])
    content = b"a mana b\xe4r"  # Latin-1
    offsets = np.array([0, 5, len(content)], np.int32)
    texts = pa.StringArray.from_buffers(2, pa.py_buffer(offsets), pa.py_buffer(content))
    captions = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), texts)
    pq.write_table(pa.Table.from_arrays([pa.array(["1", "2"]), captions], schema=pq.read_schema(part)), part)
    with pytest.raises(
        InputError, match=r"part-00000\.parquet row 1 has text that is not UTF-8; run the stage 'captions'"
    ):
        list(read_rows(tmp_path, CaptionRow))


def test_damaged_and_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no part"):
        list(read_rows(tmp_path, CaptionRow))
    part = tmp_path / "part-00000.parquet"
    write_rows(part, CaptionRow, ROWS[CaptionRow])
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(InputError, match="is not a whole Parquet file"):
        list(read_rows(tmp_path, CaptionRow))
