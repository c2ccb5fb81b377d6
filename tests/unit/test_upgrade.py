"""A database of an earlier release opens, and gains what it did not have."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from app.domain.anchors import CollectionSettings
from app.domain.cut_offs import Correction
from app.storage.sqlite import SqliteAnchorStore

ADDED = ["feedback", "corrections"]


def test_a_correction_of_an_earlier_release_keeps_applying(tmp_path: Path) -> None:
    """It has no base rate noted: the column comes when the database is opened."""
    path = tmp_path / "deja.db"
    store = SqliteAnchorStore(path, "encoder-1")
    key = store.collection("default").key
    with store.write() as rows:
        rows.put_correction(key, Correction(-0.5, 1.25), (7, 3))
        rows.put_collection("default", CollectionSettings(base_rate=0.1))
    store.close()
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE corrections DROP COLUMN base_rate")
    database.close()
    store = SqliteAnchorStore(path, "encoder-1")
    assert store.collection("default").correction == Correction(-0.5, 1.25)
    fitted = store.correction(key)
    assert fitted is not None
    assert fitted.base_rate is None
    store.close()


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
