"""Images that a stage left out, each with its reason, so that input = output + quarantine adds up exactly."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rlip_assets.storage.arrow_arrays import array_of_texts
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.files import atomic_file

QUARANTINE_FILE = "quarantine.parquet"

QUARANTINE_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("image_id", "file_name", "reason")],
    metadata={"schema": "rlip.quarantine", "version": "1"},
)


@dataclass(frozen=True, order=True)
class Quarantined:
    """One image that was left out."""

    image_id: str
    file_name: str
    reason: str


class Quarantine:
    """Collects images that a stage leaves out."""

    def __init__(self) -> None:
        self._rows: list[Quarantined] = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> list[Quarantined]:
        """The collected rows, sorted: the order of work does not show."""
        return sorted(self._rows)

    def add(self, image_id: str, file_name: str, reason: str) -> None:
        """Leave one image out."""
        self._rows.append(Quarantined(image_id, file_name, reason))

    def write(self, folder: Path) -> None:
        """Write `quarantine.parquet` into `folder`, atomically; an empty quarantine has an empty table."""
        columns = [array_of_texts([getattr(row, name) for row in self.rows]) for name in QUARANTINE_SCHEMA.names]
        table = pa.Table.from_arrays(columns, schema=QUARANTINE_SCHEMA)
        with atomic_file(folder / QUARANTINE_FILE) as temporary:
            pq.write_table(table, temporary, compression="zstd", write_statistics=False)

    def check(self, total: int, limit_fraction: float, work: Path) -> None:
        """Fail when more than `limit_fraction` of `total` images are quarantined.

        Args:
            work: folder that outlives the failure; the table of reasons is then written there.

        Raises:
            DataError: too many; the sentence gives the most frequent reason with an example.
        """
        if len(self._rows) <= limit_fraction * total:
            return
        kind, count = Counter(_kind(row.reason) for row in self.rows).most_common(1)[0]
        example = next(row for row in self.rows if _kind(row.reason) == kind)
        self.write(work)
        detail = "" if example.reason == kind else f": {example.reason}"
        raise DataError(
            f"{len(self._rows)} of {total} images are unusable, more than the allowed {limit_fraction:.1%}; "
            f"most often ({count}): {kind}, for example {example.file_name or 'a row'} (image {example.image_id or 'unknown'})"
            f"{detail}; every reason is in {work / QUARANTINE_FILE}; "
            "repair the raw data, or raise quarantine_limit to do without these images"
        )


def _kind(reason: str) -> str:
    """Return the reason without what differs from image to image."""
    return reason.split(" (")[0].split(":")[0]


def read_quarantine(folder: Path) -> list[Quarantined]:
    """Return the rows of `quarantine.parquet` in `folder`.

    Raises:
        InputError: no such file, or not a quarantine table.
    """
    path = folder / QUARANTINE_FILE
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} cannot be read ({error}); rebuild the table beside it") from None
    if table.schema.names != QUARANTINE_SCHEMA.names:
        raise InputError(f"{path} is not a quarantine table; rebuild the table beside it")
    return [Quarantined(**row) for row in table.to_pylist()]
