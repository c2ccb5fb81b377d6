"""Opening a SQLite database so that what it accepted survives, or saying why not."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, select
from sqlalchemy.exc import DatabaseError, DBAPIError

from app.domain.anchors import DEFAULT_COLLECTION, CollectionSettings
from app.domain.errors import DatabaseDamaged, DataFolderError
from app.storage.rows import now_micros, settings_to_json
from app.storage.schema import SCHEMA_VERSION, collections, corrections, meta, tables

# A check of a large database would hold up the start; this much of it is always looked at.
CHECK_SECONDS = 1.0


def open_engine(path: Path) -> Engine:
    """Return an engine on the database at `path`, made with its default collection if absent.

    Raises DatabaseDamaged where it is not a sound database, DataFolderError where it cannot be
    opened or was written by a newer release.
    """
    try:
        _check(path)
    except sqlite3.DatabaseError as error:
        raise _refusal(path, error) from error
    engine = create_engine(URL.create("sqlite", database=str(path)), pool_size=16, max_overflow=256)
    _configure(engine)
    try:
        _prepare(engine, path)
    except DatabaseError as error:
        engine.dispose()
        raise _refusal(path, error.orig or error) from error
    except BaseException:
        engine.dispose()
        raise
    return engine


def _check(path: Path) -> None:
    """Run SQLite's own integrity check for up to `CHECK_SECONDS`."""
    if not path.exists() or path.stat().st_size == 0:
        return
    deadline = time.monotonic() + CHECK_SECONDS
    connection = sqlite3.connect(path)
    try:
        connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
        try:
            finding = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                return
            raise
        if finding != "ok":
            raise DatabaseDamaged(path, " ".join(str(finding).split()))
    finally:
        connection.close()


def _refusal(path: Path, error: BaseException) -> DatabaseDamaged | DataFolderError:
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return DatabaseDamaged(path, str(error))
    return DataFolderError(f"{path}: cannot open the database ({error}); check the folder's rights")


def _configure(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        # SQLAlchemy begins transactions itself (below); sqlite3 must not do so behind its back.
        connection.isolation_level = None
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "busy_timeout = 5000",
            "temp_store = MEMORY",
            "cache_size = -16000",
            "journal_size_limit = 67108864",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # The one writer asks for its lock at once; readers take a snapshot at their first read.
        immediate = connection.get_execution_options().get("deja_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _prepare(engine: Engine, path: Path) -> None:
    with engine.execution_options(deja_write=True).begin() as connection:
        tables.create_all(connection)
        _add_columns(connection)
        facts = {row.key: row.value for row in connection.execute(select(meta.c.key, meta.c.value))}
        if not facts:
            now = now_micros()
            connection.execute(
                insert(meta),
                [
                    {"key": "schema", "value": SCHEMA_VERSION},
                    {"key": "identity", "value": secrets.token_hex(16)},
                    {"key": "last_seq", "value": "0"},
                ],
            )
            connection.execute(
                insert(collections).values(
                    name=DEFAULT_COLLECTION,
                    settings=settings_to_json(CollectionSettings()),
                    created_at=now,
                    updated_at=now,
                )
            )
        elif facts.get("schema") != SCHEMA_VERSION:
            raise DataFolderError(
                f"{path}: the database has schema {facts.get('schema')}, this release reads "
                f"{SCHEMA_VERSION}; start the release that wrote it"
            )
    # A new file is only safe from power loss once its folder's entry is.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _add_columns(connection: Connection) -> None:
    """Give tables of an earlier release the columns they lack, all of which may be null.

    An earlier release goes on with the database: it names the columns that it writes.
    """
    for table in (corrections,):
        held = {row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({table.name})")}
        for column in table.columns:
            if column.name not in held:
                kind = column.type.compile(connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD {column.name} {kind}")


def plain_words(error: DBAPIError | sqlite3.Error) -> str:
    """Return why a write was refused, for the client whose write it was."""
    refusal = error.orig if isinstance(error, DBAPIError) else error
    if getattr(refusal, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return "the disk is full; nothing was stored"
    return f"the database refused the write ({refusal}); nothing was stored"
