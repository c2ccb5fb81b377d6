"""What SQLite refuses, and what is left of a transaction in which it did."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.domain.errors import StorageFailed
from app.storage.sqlite import SqliteAnchorStore
from tests.contract.conftest import default, draft, put


def test_what_the_database_refuses_is_lost_with_its_transaction(tmp_path: Path) -> None:
    """Within a savepoint too; and the next transaction is sound, its seqs go on from the last."""
    store = SqliteAnchorStore(tmp_path / "deja.db", "encoder-1")
    key = default(store)
    put(store, a="first")

    def refused() -> None:
        with store.write() as rows:
            rows.put(key, [("b", draft("second"))])
            with rows.savepoint():
                rows.put(key, [("a", draft("again"))], {"a"})

    with pytest.raises(StorageFailed, match="refused the write"):
        refused()
    assert store.last_seq() == 1
    assert put(store, c="third") == [2]
    assert store.count(key) == (2, 0)
    store.close()


def test_what_is_refused_outside_a_savepoint_is_said_likewise(tmp_path: Path) -> None:
    """Nothing but StorageFailed leaves a transaction that the database refuses."""
    store = SqliteAnchorStore(tmp_path / "deja.db", "encoder-1")
    key = default(store)
    put(store, a="first")
    with pytest.raises(StorageFailed, match="refused the write"), store.write() as rows:
        rows.put(key, [("a", draft("again"))], {"a"})
    assert store.last_seq() == 1
    assert put(store, c="third") == [2]
    store.close()


def test_a_full_disk_is_said_and_undoes_the_whole_transaction(tmp_path: Path) -> None:
    """SQLite rolls back by itself then; the next transaction is sound."""
    store = SqliteAnchorStore(tmp_path / "deja.db", "encoder-1")
    key = default(store)
    put(store, a="first")
    with store.write() as rows:
        pages = rows.connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        rows.connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 1}")

    def fill() -> None:
        with store.write() as rows:
            for number in range(200):
                with rows.savepoint():
                    rows.put(key, [(f"more {number}", draft(f"text {number}"))])

    with pytest.raises(StorageFailed, match="the disk is full; nothing was stored"):
        fill()
    assert store.last_seq() == 1
    assert store.count(key) == (1, 0)
    with store.write() as rows:
        rows.connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    assert put(store, c="third") == [2]
    store.close()
