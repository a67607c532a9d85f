"""The MLflow store: a database that can be written, or a server that answers."""

from __future__ import annotations

import os
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from rlip_assets.doctor.examination import Examination
from rlip_assets.doctor.finding import Finding, failed, ok

SECONDS = 5
_SQLITE = "sqlite:///"


def check(case: Examination) -> Iterator[Finding]:
    """Ask the store of the environment, or look at the project's database."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{case.project / 'mlruns' / 'mlflow.db'}"
    if uri.startswith(_SQLITE):
        yield _database(Path(uri.removeprefix(_SQLITE)))
    elif uri.startswith(("http://", "https://")):
        yield _server(uri)
    else:
        yield failed(
            "MLflow", f"the store {uri} is of an unknown kind", "set MLFLOW_TRACKING_URI to http:// or sqlite:///"
        )


def _database(path: Path) -> Finding:
    existing = next(folder for folder in path.parents if folder.exists())
    if not os.access(path if path.exists() else existing, os.W_OK):
        return failed("MLflow", f"{path} cannot be written", "make it writable for this user")
    if not path.exists():
        return ok("MLflow", f"{path} is made by the first run")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=SECONDS)) as content:
            content.execute("select name from sqlite_master").fetchall()
    except sqlite3.Error as error:
        return failed("MLflow", f"{path} is not an MLflow store ({error})", "restore it or move it away")
    return ok("MLflow", str(path))


def _server(uri: str) -> Finding:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=SECONDS):
            return ok("MLflow", f"{uri} answers")
    except urllib.error.HTTPError as error:
        return failed("MLflow", f"{uri} answers {error.code}", "give access, or correct MLFLOW_TRACKING_URI")
    except (OSError, ValueError) as error:
        return failed("MLflow", f"{uri} does not answer ({error})", "start the server or unset MLFLOW_TRACKING_URI")
