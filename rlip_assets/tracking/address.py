"""Addresses of the tracking store: where its records go and where its pages are. Imports no MLflow, so that links cost nothing."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from rlip_assets.lineage.profiles import PROJECT_ROOT
from rlip_assets.storage.errors import InputError

STORE_VARIABLE = "MLFLOW_TRACKING_URI"
UI_VARIABLE = "RLIP_MLFLOW_UI"
"""Address of the pages, which `rlip ui` tells the processes that it starts."""
DEFAULT_UI = "http://127.0.0.1:5000"
ARTIFACTS = "artifacts"
"""Folder of artifacts beside the database of a SQLite store."""
_SQLITE = "sqlite:///"
_SERVERS = ("http", "https")
_DATABASES = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_PORTS = {"http": 80, "https": 443, **_DATABASES}
_PROBE_SECONDS = 3.0


class StoreAwayError(InputError):
    """The tracking store at an address does not answer."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(
            f"the tracking store {shown(uri)} does not answer ({reason}); start it or unset {STORE_VARIABLE}"
        )


def store_uri(project: Path = PROJECT_ROOT) -> str:
    """Return the address of the tracking store: MLFLOW_TRACKING_URI, else the project's SQLite file."""
    return os.environ.get(STORE_VARIABLE) or own_store_uri(project)


def own_store_uri(project: Path = PROJECT_ROOT) -> str:
    """Return the address of the project's SQLite file."""
    return f"{_SQLITE}{(project / 'mlruns' / 'mlflow.db').resolve()}"


def database_file(uri: str) -> Path | None:
    """Return the file of a SQLite store, None for any other store."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def artifacts_folder(project: Path = PROJECT_ROOT) -> Path | None:
    """Return the folder of the artifacts of a SQLite store; those of other stores lie where their server says."""
    database = database_file(store_uri(project))
    return database and database.resolve().parent / ARTIFACTS


def server_address(uri: str) -> str | None:
    """Return the address of the pages where the store is an MLflow server, None where it is a database."""
    return shown(uri).rstrip("/") if urlsplit(uri).scheme in _SERVERS else None


def is_database_server(uri: str) -> bool:
    """Return whether the store is a database to which one connects."""
    return _kind(uri) in _DATABASES


def ui_address() -> str:
    """Return the address of MLflow's pages: the server that MLFLOW_TRACKING_URI names, else the one that `rlip ui` starts."""
    return server_address(store_uri()) or os.environ.get(UI_VARIABLE, DEFAULT_UI)


def run_address(experiment: str | None, run: str) -> str:
    """Return the address of the page of a run."""
    return f"{ui_address()}/#/experiments/{experiment}/runs/{run}"


def shown(uri: str) -> str:
    """Return the address without user and password, for sentences and links."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.netloc else uri


def fingerprint(uri: str) -> str:
    """Return 16 hex digits that tell a store from others without its password."""
    return hashlib.sha256(shown(uri).rstrip("/").encode()).hexdigest()[:16]


def why_away(uri: str) -> str | None:
    """Return why nothing listens at the address of a store, at once.

    None where something does, the store is a file, or the address names no host: such a database is reached by a socket file.
    """
    parts, kind = urlsplit(uri), _kind(uri)
    if kind not in _PORTS or not parts.hostname:
        return None
    try:
        port = parts.port or _PORTS[kind]
        with socket.create_connection((parts.hostname, port), timeout=_PROBE_SECONDS):
            return None
    except (OSError, ValueError) as error:
        return (getattr(error, "strerror", None) or str(error) or "no answer").lower()


def require_store(project: Path = PROJECT_ROOT) -> None:
    """Raise StoreAwayError where nothing listens at the store's address, at once."""
    if reason := why_away(uri := store_uri(project)):
        raise StoreAwayError(uri, reason)


def _kind(uri: str) -> str:
    return urlsplit(uri).scheme.partition("+")[0]
