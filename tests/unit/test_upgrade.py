"""A database of an earlier release opens, and gains what it did not have."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from app.storage.sqlite import SqliteAnchorStore

ADDED = ["feedback", "corrections"]


@pytest.mark.parametrize("table", ADDED)
def test_a_database_without_a_later_table_gets_it(tmp_path: Path, table: str) -> None:
    """Opening it is the whole upgrade; what it held is there."""
    path = tmp_path / "deja.db"
    store = SqliteAnchorStore(path, "encoder-1")
    identity = store.identity
    store.close()
    with sqlite3.connect(path) as database:
        database.execute(f"DROP TABLE {table}")
    database.close()
    store = SqliteAnchorStore(path, "encoder-1")
    key = store.collection("default").key
    assert store.identity == identity
    assert store.feedback.count(key).duplicate == 0
    assert store.correction(key) is None
    store.close()
