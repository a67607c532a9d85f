"""Readers of what earlier stages wrote: a missing or damaged file is one sentence that says what to run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from rlip_assets.storage.errors import InputError

T = TypeVar("T")


def read_json(file: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: missing or damaged, as of every function here.
    """
    return _read(file, lambda: json.loads(file.read_text(encoding="utf-8")))


def read_history(file: Path) -> list[dict[str, float]]:
    """Return the rows of a training's `history.jsonl`, one per step."""
    return _read(file, lambda: [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()])


def read_rows(file: Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return the rows of a Parquet file, with all columns or some."""
    return _read(file, lambda: pq.read_table(file, columns=columns).to_pylist())


def _read(file: Path, content: Callable[[], T]) -> T:
    try:
        return content()
    except FileNotFoundError:
        raise InputError(f"{file} is missing: run the stage that writes it (`dvc repro`)") from None
    except (ValueError, pa.ArrowException) as error:
        raise InputError(f"{file} is damaged ({error}): run the stage that writes it again") from None
