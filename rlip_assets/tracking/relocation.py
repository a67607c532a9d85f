"""Artifact locations follow the project.

MLflow records absolute locations. After a project was moved or copied, its store names the artifacts of the old place, where it would write
new ones and look for all. Opening the store puts that right.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from rlip_assets.tracking.address import ARTIFACTS

_COLUMNS = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "model_versions": ("source", "storage_location"),
    "logged_models": ("artifact_location",),
    "datasets": ("dataset_source",),
}
"""Columns of MLflow's tables that hold locations, alone or within JSON."""


def relocate(database: Path) -> None:
    """Let the locations in an MLflow store (SQLite) lead to the folder that it lies in now.

    An experiment `NAME` belongs into `artifacts/NAME` beside the database. One whose artifacts are elsewhere, and not here, is left alone:
    its place was chosen.
    """
    here = database.resolve().parent
    with closing(sqlite3.connect(database, timeout=60)) as store, store:
        for old in _former_folders(store, here):
            # with the folder's name kept the whole project moved, and with it what its runs read
            moved = (old.parent, here.parent) if old.name == here.name else (old, here)
            before, after = (f"{folder.as_uri()}/" for folder in moved)
            for table, columns in _COLUMNS.items():
                for column in columns:
                    change = f"update {table} set {column} = replace({column}, ?, ?) where instr({column}, ?) > 0"
                    store.execute(change, (before, after, before))


def _former_folders(store: sqlite3.Connection, here: Path) -> set[Path]:
    """Return the folders that the store lay in before, by the locations of its experiments."""
    found = set()
    for name, location in store.execute("select name, artifact_location from experiments").fetchall():
        wanted, old = here / ARTIFACTS / name, Path(url2pathname(urlsplit(location).path))
        is_ours = location.startswith("file:") and old.parts[-2:] == (ARTIFACTS, name)
        if is_ours and old != wanted and (wanted.exists() or not old.exists()):
            found.add(old.parents[1])
    return found
