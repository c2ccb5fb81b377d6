"""Moving what was committed out of the write-ahead log, while the writer goes on."""

from __future__ import annotations

import logging
import sqlite3
import threading
from pathlib import Path

log = logging.getLogger("deja.storage")

# Seconds between two of them while there are commits: each leaves little to do for the next.
PAUSE_SECONDS = 1.0


class Checkpoints:
    """A thread that checkpoints a database some time after each commit.

    Left to SQLite, a commit in so many does it, and whoever waits for that commit waits for two
    more synchronisations of the disk. What this thread does is of the kind that holds up nobody
    (`PASSIVE`), and so cannot empty a log that is always being written: a commit still does that
    once `wal_autocheckpoint` pages are in it, but finds most of them moved.
    """

    def __init__(self, path: Path, pause: float = PAUSE_SECONDS) -> None:
        """Start the thread. path: of the database. pause: seconds."""
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._pause = pause
        self._committed = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="deja-checkpoints", daemon=True)
        self._thread.start()

    def committed(self) -> None:
        """Say that there is something to move."""
        self._committed.set()

    def close(self) -> None:
        """Stop the thread; closing the last connection checkpoints what is left."""
        self._stopping.set()
        self._committed.set()
        self._thread.join()
        self._connection.close()

    def _work(self) -> None:
        while True:
            self._committed.wait()
            if self._stopping.wait(self._pause):
                return
            self._committed.clear()
            try:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except sqlite3.Error as error:
                log.warning("nothing is lost, but the write-ahead log cannot be moved: %s", error)
