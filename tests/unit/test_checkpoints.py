"""The write-ahead log is moved into the database behind the writer's back."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.storage.checkpoints import Checkpoints


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.db"


@pytest.fixture
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that never checkpoints by itself."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE notes (text TEXT)")
    yield connection
    connection.close()


def _within(seconds: float, true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_what_was_committed_reaches_the_database(path: Path, writing: sqlite3.Connection) -> None:
    """Told of a commit, it moves the pages; until then they are in the log alone."""
    checkpoints = Checkpoints(path, pause=0.01)
    try:
        writing.execute("INSERT INTO notes VALUES ('remember the milk')")
        time.sleep(0.1)
        assert b"remember the milk" not in path.read_bytes()
        checkpoints.committed()
        assert _within(5, lambda: b"remember the milk" in path.read_bytes())
    finally:
        checkpoints.close()


def test_it_waits_for_nobody_and_nobody_for_it(path: Path, writing: sqlite3.Connection) -> None:
    """A reader of an older moment and an open write transaction hold up nothing."""
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    checkpoints = Checkpoints(path, pause=0.01)
    try:
        writing.execute("BEGIN IMMEDIATE")
        writing.execute("INSERT INTO notes VALUES ('one')")
        checkpoints.committed()
        time.sleep(0.1)
        writing.execute("COMMIT")
        writing.execute("INSERT INTO notes VALUES ('two')")
        assert reader.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    finally:
        checkpoints.close()
        reader.close()


def test_closing_does_not_wait_for_the_next_one(path: Path, writing: sqlite3.Connection) -> None:
    """A thread that pauses after a commit is woken."""
    checkpoints = Checkpoints(path, pause=60.0)
    writing.execute("INSERT INTO notes VALUES ('late')")
    checkpoints.committed()
    started = time.monotonic()
    checkpoints.close()
    assert time.monotonic() - started < 5


def test_a_failure_is_told_and_the_next_is_tried(
    path: Path, writing: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names what went wrong, and that nothing is lost; the next commit tries again."""
    checkpoints = Checkpoints(path, pause=0.01)
    try:
        writing.execute("INSERT INTO notes VALUES ('kept')")
        checkpoints._connection.close()
        with caplog.at_level(logging.WARNING, "deja.storage"):
            checkpoints.committed()
            assert _within(5, lambda: "nothing is lost" in caplog.text)
        checkpoints._connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False
        )
        checkpoints.committed()
        assert _within(5, lambda: b"kept" in path.read_bytes())
    finally:
        checkpoints.close()
